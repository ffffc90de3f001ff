"""One of several server processes on a port: `python -m mlpserve_server.workers.worker CONFIG_AS_JSON SUPERVISOR_PID`.

Does what the supervisor says over its standard input, and tells it over its standard output (see `supervisor`). It does
not outlive the supervisor, not even while it is stopped.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, NoReturn

from mlpserve_server.config import ServerConfig
from mlpserve_server.errors import StartupError
from mlpserve_server.host import streams
from mlpserve_server.host.signals import Stop, stop_on_signals
from mlpserve_server.observe import log_format

if TYPE_CHECKING:
    from mlpserve_server.server import Server

PR_SET_PDEATHSIG = 1  # of prctl(2)


def main() -> None:
    """Entry point of a worker."""
    _die_with(int(sys.argv[2]))
    stop = Stop()
    stop_on_signals(stop)
    supervisor = _Supervisor()
    config = ServerConfig(**json.loads(sys.argv[1]))
    log_format.configure(config.log_format, os.getpid())

    # After what they take a second for could end this process.
    from mlpserve_server.host.tuning import settle, share_one_heap
    from mlpserve_server.server import Server

    share_one_heap()
    server = Server(config, share_port=True, on_stuck=_end_stuck)
    try:
        started = stop.attempt(server.prepare)
    except StartupError as error:
        server.stop()
        supervisor.tell({"failed": str(error)})
        streams.end(1)
    if started is None:
        logging.error("stopped before it was ready%s", f"; {waiting}" if (waiting := server.waiting()) else "")
        server.stop()
        streams.end(1)
    settle()
    supervisor.tell({"ready": started._asdict()})
    threading.Thread(target=supervisor.obey, args=(server, stop), daemon=True).start()
    stop.wait()
    streams.end(0 if server.stop() else 1)


def _die_with(supervisor: int) -> None:
    """Let the kernel kill this process when the supervisor's thread that started it ends, however it does.

    A process that is stopped reads no pipe, so the pipe's end would not reach it, and it would go on holding the port.
    Other systems than Linux have the pipe only.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:  # it had ended before that
        os._exit(1)


def _end_stuck(reason: str) -> NoReturn:
    logging.critical("%s", reason)
    streams.end(1)


class _Supervisor:
    """The supervisor, at the other ends of standard input and output; whatever else is printed goes to the log."""

    def __init__(self) -> None:
        self._answers = os.dup(streams.STDOUT)
        os.dup2(streams.STDERR, streams.STDOUT)

    def tell(self, message: dict[str, Any]) -> bool:
        """Send a message; False if the supervisor is gone."""
        return streams.write_all(self._answers, json.dumps(message).encode() + b"\n")

    def obey(self, server: Server, stop: Stop) -> None:
        """Do what the supervisor says until it is gone, and end then."""
        pending, there = b"", True
        try:
            # Not sys.stdin: a thread that waits in it would end the interpreter badly.
            while there and (chunk := os.read(0, 4096)):
                *lines, pending = (pending + chunk).split(b"\n")
                for line in lines:
                    command = json.loads(line)["do"]
                    if command == "serve":
                        server.serve()
                    elif command == "metrics":
                        there = self.tell({"metrics": server.metrics.snapshot()})
        finally:
            stop.set()


if __name__ == "__main__":
    main()
