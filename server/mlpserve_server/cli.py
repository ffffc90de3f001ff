"""`mlpserve-server`: flags, signals and exit codes.

    mlpserve-server --store store --model mnist

Prints one line on standard output when it serves; the log goes to standard error. SIGTERM and SIGINT drain, a second
one ends at once. The last line of the log says why it ended. Exit codes:

    0  drained                                          3  some accepted requests were not answered in time
    1  could not start                                  4  stuck, or its workers died too often
    2  wrong usage                                128 + N  ended by a second signal, number N
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import sys
from typing import NoReturn

from mlpserve_server.config import ServerConfig
from mlpserve_server.signals import Stop, stop_or_end_on_signals

COULD_NOT_START, WRONG_USAGE, NOT_FINISHED, BROKEN = 1, 2, 3, 4


def main() -> None:
    """Entry point of `mlpserve-server`."""
    # Before the imports below, so that even an early SIGTERM ends the process in order.
    stop = Stop()
    stop_or_end_on_signals(stop)
    try:
        config = _parse(sys.argv[1:])  # first, so that --help answers at once

        from mlpserve_server import logs
        from mlpserve_server.errors import StartupError
        from mlpserve_server.resources import default_workers, settle
        from mlpserve_server.server import Server

        logs.configure(config.log_format)
    except ModuleNotFoundError as error:
        _exit(
            WRONG_USAGE, f"{error.name} is not installed; the server needs: pip install 'mlpserve[server,cpu]' (or gpu)"
        )

    if not config.workers:
        config = dataclasses.replace(config, workers=default_workers(config.device))
    if config.workers > 1:
        _supervise(config, stop)
    server = Server(config, on_stuck=lambda: os._exit(BROKEN))
    try:
        model = server.start()
    except StartupError as error:
        server.stop()
        _exit(COULD_NOT_START, f"{error} (see {error.page})")
    settle()
    print(f"Serving {model.ref.name} version {model.ref.version} on {server.address}", flush=True)
    stop.wait()
    logging.info("draining: finishing accepted requests")
    if not server.stop():
        print(
            f"mlpserve-server: some requests were not finished within --drain-timeout {config.drain_timeout:g} s",
            file=sys.stderr,
            flush=True,
        )
        os._exit(
            NOT_FINISHED
        )  # a Run is still under way in its thread; an orderly exit would abort in the middle of it
    logging.info("drained; every accepted request was answered")


def _supervise(config: ServerConfig, stop: Stop) -> NoReturn:
    """Serve with several processes until told to stop."""
    from mlpserve_server.errors import StartupError
    from mlpserve_server.supervisor import Supervisor

    supervisor = Supervisor(config, on_failure=stop.set)
    stop_or_end_on_signals(stop, on_second=supervisor.kill)
    try:
        facts = supervisor.start()
    except StartupError as error:
        supervisor.stop()
        _exit(COULD_NOT_START, f"{error} (see {error.page})")
    print(f"Serving {facts['model']} version {facts['version']} on {facts['address']}", flush=True)
    stop.wait()
    logging.info("draining %d workers: finishing accepted requests", config.workers)
    finished = supervisor.stop()
    if supervisor.failed:
        _exit(BROKEN, "the workers died too often; their log is above")
    if not finished:
        _exit(NOT_FINISHED, f"some requests were not finished within --drain-timeout {config.drain_timeout:g} s")
    logging.info("drained; every accepted request was answered")
    sys.exit(0)


def _parse(arguments: list[str]) -> ServerConfig:
    from mlpserve_server.errors import ConfigError

    flags = parser()
    values = vars(flags.parse_args(arguments))
    try:
        return ServerConfig(**values)
    except ConfigError as error:
        flags.error(f"{error} (see {error.page})")


def parser() -> argparse.ArgumentParser:
    """The flags; one for each field of the configuration."""
    parser = argparse.ArgumentParser(
        prog="mlpserve-server",
        description="Serve a published model over gRPC.",
    )
    for field in dataclasses.fields(ServerConfig):
        options = dict(field.metadata)
        flag = f"--{field.name.replace('_', '-')}"
        if isinstance(field.default, bool):
            parser.add_argument(flag, action="store_true", **options)
            continue
        if field.default != "":
            options["help"] += f" (default: {field.default})"
        parser.add_argument(flag, type=type(field.default), default=field.default, **options)
    return parser


def _exit(code: int, message: str) -> NoReturn:
    print(f"mlpserve-server: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
