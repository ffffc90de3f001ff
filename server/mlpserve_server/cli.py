"""`mlpserve-server`: flags, signals and exit codes.

    mlpserve-server --store store --model mnist

Prints one line on standard output when it serves; the log goes to standard error. SIGTERM and SIGINT drain, a second
one ends at once. The last line of the log says why it ended. Exit codes:

    0  drained
    1  could not start, or stopped before it was ready
    2  wrong usage
    3  some accepted requests were not answered in time
    4  stuck, or its port took no connections, or its workers died too often or cannot be replaced
    128 + N  ended by a second signal, number N
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from typing import NoReturn

from mlpserve.command_line import NumberOrOwnVersion, Parser
from mlpserve.shown import shown
from mlpserve.terminal import tolerate
from mlpserve_server.config import GROUPS, ServerConfig
from mlpserve_server.host import streams
from mlpserve_server.host.signals import Stop, stop_or_end_on_signals
from mlpserve_server.observe import log_format

LONGEST = 2000  # characters of an error
COULD_NOT_START, WRONG_USAGE, NOT_FINISHED, BROKEN = 1, 2, 3, 4


def main() -> None:
    """Entry point of `mlpserve-server`."""
    tolerate()
    # Before the imports below, so that even an early SIGTERM ends the process in order.
    streams.unblock()
    stop = Stop()
    stop_or_end_on_signals(stop)
    try:
        config = _parse(sys.argv[1:])  # first, so that --help answers at once
        log_format.configure(config.log_format)

        from mlpserve_server.errors import StartupError
        from mlpserve_server.host.tuning import settle, share_one_heap
        from mlpserve_server.server import Server
        from mlpserve_server.workers.count import default_workers
        from mlpserve_server.workers.supervisor import Supervisor
    except ModuleNotFoundError as error:
        _exit(
            WRONG_USAGE, f"{error.name} is not installed; the server needs: pip install 'mlpserve[server,cpu]' (or gpu)"
        )

    share_one_heap()
    if not config.workers:
        config = dataclasses.replace(config, workers=default_workers(config.device, config.precision))
    failures: list[str] = []

    def give_up(reason: str) -> None:
        failures.append(f"{reason}; the workers' log is above")
        stop.set()

    server: Server | Supervisor = Server(config, on_stuck=_end_stuck)
    if config.workers > 1:
        server = Supervisor(config, on_failure=give_up)
        stop_or_end_on_signals(stop, on_second=server.kill)
    try:
        started = stop.attempt(server.start)
    except StartupError as error:
        server.stop()
        _exit(COULD_NOT_START, f"{error} (see {error.page})")
    if started is None:
        waiting = server.waiting()
        server.stop()
        _exit(COULD_NOT_START, "; ".join(filter(None, ("stopped before it was ready", waiting))))
    settle()
    print(f"Serving {started.model} version {started.version} on {started.address}", flush=True)
    stop.wait()
    logging.info("draining: finishing accepted requests")
    finished = server.stop()
    if failures:
        _exit(BROKEN, failures[0])
    _end_drained(finished, config)


def _end_drained(finished: bool, config: ServerConfig) -> NoReturn:
    if not finished:
        _exit(NOT_FINISHED, f"some requests were not finished within --drain-timeout {config.drain_timeout:g} s")
    logging.info("drained; every accepted request was answered")
    streams.end(0)


def _end_stuck(reason: str) -> None:
    logging.critical("%s", reason)
    streams.end(BROKEN)


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
    parser: argparse.ArgumentParser = Parser(
        prog="mlpserve-server",
        description="Serve a published model over gRPC, in batches, with hot reload.",
        epilog="SIGTERM and SIGINT start a graceful shutdown, a second one exits at once. Exit codes: 0 every accepted "
        "request was answered, 1 could not start, 2 wrong usage, 3 --drain-timeout passed first, 4 stuck or the "
        "workers kept failing, 128 + N a second signal.",
    )
    groups = {title: parser.add_argument_group(title) for title in GROUPS}
    for field in dataclasses.fields(ServerConfig):
        options = dict(field.metadata)
        group = groups[options.pop("group")]
        flag = f"--{field.name.replace('_', '-')}"
        if isinstance(field.default, bool):
            group.add_argument(flag, action="store_true", **options)
            continue
        if field.name == "version":
            options |= {"nargs": "?", "action": NumberOrOwnVersion}
        if field.default != "":
            options["help"] += f" (default: {field.default})"
        group.add_argument(flag, type=type(field.default), default=field.default, **options)
    return parser


def _exit(code: int, message: str) -> NoReturn:
    print(f"mlpserve-server: {shown(message, LONGEST)}", file=sys.stderr)
    streams.end(code)


if __name__ == "__main__":
    main()
