"""One of several server processes on a port: `python -m mlpserve_server.worker CONFIG_AS_JSON`.

Does what the supervisor says over its standard input, and tells it over its standard output (see `supervisor`).
"""

import json
import os
import sys
import threading
from typing import Any

from mlpserve_server import logs
from mlpserve_server.config import ServerConfig
from mlpserve_server.errors import StartupError
from mlpserve_server.resources import settle
from mlpserve_server.server import Server
from mlpserve_server.signals import Stop, stop_on_signals


def main() -> None:
    """Entry point of a worker."""
    stop = Stop()
    stop_on_signals(stop)
    config = ServerConfig(**json.loads(sys.argv[1]))
    logs.configure(config.log_format, os.getpid())
    server = Server(config, share_port=True, on_stuck=lambda: os._exit(1))
    try:
        model = server.prepare()
    except StartupError as error:
        server.stop()
        _say({"failed": str(error)})
        sys.exit(1)
    settle()
    _say({"ready": {"model": model.ref.name, "version": model.ref.version, "precision": model.precision_name}})
    threading.Thread(target=_obey, args=(server, stop), daemon=True).start()
    stop.wait()
    if not server.stop():
        os._exit(1)  # a Run is still under way in its thread; an orderly exit would abort in the middle of it


def _obey(server: Server, stop: Stop) -> None:
    """Do what the supervisor says until it is gone."""
    pending = b""
    # Not sys.stdin: a thread that waits in it would end the interpreter badly.
    while chunk := os.read(0, 4096):
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            command = json.loads(line)["do"]
            if command == "serve":
                server.serve()
            elif command == "metrics":
                _say({"metrics": server.metrics.snapshot()})
    stop.set()


def _say(message: dict[str, Any]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    main()
