"""A small HTTP server that callers cannot fill: few connections at a time, each for a short time."""

import contextlib
import socket
import threading
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client.exposition import ThreadingWSGIServer

MOST_CONNECTIONS = 32  # at a time; the oldest makes room for one more
SECONDS = 5.0  # for each read and write


class _Handler(WSGIRequestHandler):
    timeout = SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing: who asks, and with which words, is no event of the server."""


class _Server(ThreadingWSGIServer):
    daemon_threads = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._open: dict[socket.socket, None] = {}  # oldest first
        self._changing = threading.Lock()
        super().__init__(*args, **kwargs)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changing:
            if len(self._open) >= MOST_CONNECTIONS:
                _hang_up(next(iter(self._open)))
                self._open.pop(next(iter(self._open)))
            self._open[request] = None
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no more threads are to be had
            self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        with self._changing:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Write nothing: a caller that leaves or stalls is no event of the server."""


class _ServerOverIPv6(_Server):
    address_family = socket.AF_INET6


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)  # its thread notices, and closes it


def serve(app: Any, host: str, port: int) -> WSGIServer:
    """A server that listens, and whose `serve_forever` is to be called.

    Args:
        app: WSGI application.
        host: where it listens.
        port: there.

    Raises:
        OSError: it cannot.
    """
    return make_server(host, port, app, _ServerOverIPv6 if ":" in host else _Server, _Handler)
