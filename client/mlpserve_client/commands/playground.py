"""`mlpserve playground`: flags, and the web server."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlpserve.numbers import is_whole
from mlpserve_client.commands.flags import add_preparation
from mlpserve_client.connection.retries import JOB_TIMEOUT
from mlpserve_client.errors import InvalidInputError

if TYPE_CHECKING:
    from mlpserve_client.connection.endpoint import Endpoint

DEFAULT_LISTEN = "127.0.0.1:8000"


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its flags."""
    playground = commands.add_parser("playground", help="serve a web page to draw on and watch the model answer")
    playground.add_argument(
        "--target",
        dest="server",
        default=argparse.SUPPRESS,
        metavar="HOST:PORT",
        help="address of the server, the same as --server before the command",
    )
    playground.add_argument(
        "--listen", default=DEFAULT_LISTEN, metavar="HOST:PORT", help=f"address of the page (default: {DEFAULT_LISTEN})"
    )
    playground.add_argument(
        "--host-name",
        action="append",
        default=[],
        metavar="NAME",
        help="additional host name to accept from browsers, such as that of a reverse proxy",
    )
    playground.add_argument(
        "--gallery", default="", metavar="FILE", help="images whose hardest ones the page shows; any input of score"
    )
    playground.add_argument("--labels", type=Path, metavar="FILE", help="true classes of the gallery: IDX or .npy")
    add_preparation(playground)
    playground.set_defaults(job=run)


def run(endpoint: Endpoint, arguments: argparse.Namespace) -> int:
    """Serve the page until interrupted."""
    import ipaddress
    import signal
    import socket

    import uvicorn

    from mlpserve_client.playground.answers import Answers
    from mlpserve_client.playground.app import create_app
    from mlpserve_client.playground.gallery import Gallery

    host, _, port = arguments.listen.rpartition(":")
    if not host or not is_whole(port) or int(port) > 65535:
        raise InvalidInputError(f"--listen {arguments.listen}; expected HOST:PORT, for example {DEFAULT_LISTEN}")
    if arguments.labels is not None and not arguments.gallery:
        raise InvalidInputError("--labels goes with --gallery")
    for path in (arguments.gallery, arguments.labels):
        if path and "://" not in str(path) and not Path(path).exists():
            raise InvalidInputError(f"{path}: no such file")
    if endpoint.timeout is None:
        endpoint = replace(endpoint, timeout=JOB_TIMEOUT)  # a picture may wait for large ones
    bare = host.strip("[]")
    try:
        listener = socket.create_server((bare, int(port)), family=socket.AF_INET6 if ":" in bare else socket.AF_INET)
    except OSError as error:
        raise InvalidInputError(
            f"--listen {arguments.listen}: {error.strerror}; choose another port, 0 for any"
        ) from error
    names = ["127.0.0.1", "localhost", "[::1]", *arguments.host_name]
    address = listener.getsockname()[0]  # as the system read it: "0" is every address too
    everywhere = ipaddress.ip_address(address.partition("%")[0]).is_unspecified
    if not everywhere:
        names.append(f"[{bare}]" if ":" in bare else bare)  # as browsers write it
    gallery = Gallery(arguments.gallery, arguments.labels, arguments.max_pixels) if arguments.gallery else None
    app = create_app(Answers(endpoint, arguments.raw, arguments.max_pixels), gallery, names)
    shown = ("[::1]" if ":" in bare else "127.0.0.1") if everywhere else host
    print(
        f"Playground on http://{shown}:{listener.getsockname()[1]} (server {endpoint.target}); Ctrl-C ends it",
        flush=True,
    )
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)
    # uvicorn ends gracefully on either, and then raises the signal again for what was there before it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    uvicorn.Server(config).run(sockets=[listener])
    return 0
