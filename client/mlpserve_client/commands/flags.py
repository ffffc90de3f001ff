"""Flags that several commands of `mlpserve` share: server and model, TLS and tokens, preparation of pictures."""

import argparse
import os
from pathlib import Path

from mlpserve.command_line import NumberOrOwnVersion
from mlpserve.numbers import LONGEST, MOST, is_seconds
from mlpserve_client.connection.retries import CALL_TIMEOUT, JOB_TIMEOUT

WITH_BAD_ROWS = 4  # exit code: finished, and some rows or pictures could not be read


def repeat_connection(command: argparse.ArgumentParser) -> None:
    """Take the flags of `add_connection` after the command as well; --help shows them before it alone."""
    every = argparse.ArgumentParser(add_help=False)
    add_connection(every)
    hidden = command.add_argument_group()
    for action in every._actions:
        if not set(action.option_strings) & set(command._option_string_actions):
            action.default = action.help = argparse.SUPPRESS  # what stands before the command counts unless repeated
            hidden._add_action(action)


def add_connection(parser: argparse.ArgumentParser) -> None:
    """Add the flags for the server, the model and the connection."""
    target = parser.add_argument_group("Server and model")
    target.add_argument(
        "--server",
        default=os.environ.get("MLPSERVE_SERVER") or "127.0.0.1:50051",
        metavar="HOST:PORT",
        help="address of the server (default: $MLPSERVE_SERVER, or 127.0.0.1:50051)",
    )
    target.add_argument("--model", default="", metavar="NAME", help="model name (default: whatever is served)")
    target.add_argument(
        "--version",
        type=int,
        nargs="?",
        action=NumberOrOwnVersion,
        default=0,
        metavar="N",
        help="version to pin; 0 takes whichever is served (default: 0); without a number, print mlpserve's own",
    )
    target.add_argument(
        "--timeout",
        type=positive_seconds,
        metavar="SECONDS",
        help=f"deadline of a call, retries included (default: {CALL_TIMEOUT:g}; score: {JOB_TIMEOUT:g})",
    )
    security = parser.add_argument_group("Authentication and TLS")
    security.add_argument("--tls", action="store_true", help="use TLS; trust the system's certificate authorities")
    security.add_argument("--tls-ca", type=Path, metavar="FILE", help="use TLS; trust these PEM authorities instead")
    security.add_argument("--tls-cert", type=Path, metavar="FILE", help="PEM client certificate, for mutual TLS")
    security.add_argument("--tls-key", type=Path, metavar="FILE", help="PEM private key of --tls-cert")
    security.add_argument(
        "--tls-server-name", default="", metavar="NAME", help="name to expect in the server's certificate"
    )
    security.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        default=os.environ.get("MLPSERVE_TOKEN_FILE") or None,
        help="file with the bearer token (default: $MLPSERVE_TOKEN_FILE)",
    )
    security.add_argument(
        "--token-over-plaintext",
        action="store_true",
        help="send the token without TLS too; only where something in between encrypts",
    )


def add_preparation(command: argparse.ArgumentParser) -> None:
    """Add --raw, --centre (default: as the model's training images were prepared) and --max-pixels."""
    preparation = command.add_argument_group("Picture preparation (default: as the model's training images)")
    choice = preparation.add_mutually_exclusive_group()
    choice.add_argument("--raw", action="store_true", default=None, help="only convert to grey and resize")
    choice.add_argument(
        "--centre", action="store_false", dest="raw", help="find the ink and centre it, as MNIST's images are made"
    )
    preparation.add_argument(
        "--max-pixels",
        type=positive,
        default=50_000_000,
        metavar="N",
        help="largest picture to decode, width times height; bounds memory (default: 50,000,000)",
    )


def seconds(text: str) -> float:
    """A time that can be waited for; 0 is none."""
    value = float(text)
    if not is_seconds(value):
        raise argparse.ArgumentTypeError(f"{text}: expected seconds from 0 to {LONGEST:,.0f}")
    return value


def positive_seconds(text: str) -> float:
    """A time that can be waited for, above 0."""
    value = seconds(text)
    if not value:
        raise argparse.ArgumentTypeError(f"{text} must be above 0")
    return value


def positive(text: str) -> int:
    """A count of at least 1."""
    value = at_least_zero(text)
    if not value:
        raise argparse.ArgumentTypeError(f"{text} must be at least 1")
    return value


def at_least_zero(text: str) -> int:
    """A count of at least 0."""
    value = int(text)
    if not 0 <= value <= MOST:
        raise argparse.ArgumentTypeError(f"{text}: expected 0 to {MOST:,}")
    return value
