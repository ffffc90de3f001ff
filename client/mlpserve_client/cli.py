"""`mlpserve`: the command line of the client.

    mlpserve info                                  what the server serves
    mlpserve predict digit.png photo.jpg           classify pictures
    mlpserve score images.npy answers              classify files and folders, millions of rows
    mlpserve playground                            a web page to draw on and watch the model answer
    mlpserve doctor                                check this machine and the way to the server

Exit codes: 0 done, 1 failed (standard error says why), 2 wrong usage, 3 an input of `score` changed while it ran,
4 finished with bad rows or unreadable pictures, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from pathlib import Path

from mlpserve.command_line import Parser
from mlpserve.shown import shown
from mlpserve.terminal import tolerate
from mlpserve_client.client import Client
from mlpserve_client.commands import completion, doctor, info, playground, predict, score
from mlpserve_client.commands.flags import add_connection, repeat_connection
from mlpserve_client.connection.endpoint import Endpoint, Tls
from mlpserve_client.errors import InvalidInputError, MlpserveError

LONGEST = 2000  # characters of an error
# By the package that is missing; others: score.
EXTRAS = {"PIL": "images", "starlette": "web", "uvicorn": "web", "shtab": "completion"}


def main() -> None:
    """Entry point of `mlpserve`."""
    tolerate()
    arguments = parser().parse_args()
    # Pillow warns of pictures that we refuse in words.
    warnings.filterwarnings("ignore", "Image size .* could be decompression bomb", RuntimeWarning)
    try:
        if "local" in arguments:
            sys.exit(arguments.local(arguments))
        if "job" in arguments:
            sys.exit(arguments.job(_endpoint(arguments), arguments))
        with Client(_endpoint(arguments)) as client:
            code = arguments.run(client, arguments)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get(error.name or "", "score")
        _exit(1, f"{error.name} is not installed; this command needs: pip install 'mlpserve[{extra}]'")
    except MlpserveError as error:
        _exit(getattr(error, "exit_code", 1), f"{error} (see {error.page})")
    except BrokenPipeError:  # of `mlpserve … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        _exit(130, "interrupted" + ("; run the same command again to resume" if "job" in arguments else ""))
    sys.exit(code)


def parser() -> argparse.ArgumentParser:
    """The commands and their flags."""
    parser: argparse.ArgumentParser = Parser(
        prog="mlpserve",
        description="Call an mlpserve server: classify pictures, score data sets, inspect models.",
        epilog="The flags of server, model and TLS may stand before the command or after it. Exit codes: 0 done, "
        "1 failed, 2 wrong usage, 3 an input of score changed while it was read, 4 finished with bad "
        "rows, 130 interrupted.",
    )
    add_connection(parser)
    commands = parser.add_subparsers(required=True, title="Commands", metavar="COMMAND")

    info.add(commands)
    predict.add(commands)
    score.add(commands)
    playground.add(commands)
    doctor.add(commands)
    completion.add(commands)
    for command in commands.choices.values():
        repeat_connection(command)
    return parser


def _endpoint(arguments: argparse.Namespace) -> Endpoint:
    return Endpoint(
        arguments.server,
        model=arguments.model,
        version=arguments.version,
        timeout=arguments.timeout,
        tls=_tls(arguments),
        token=_token(arguments.token_file),
        token_over_plaintext=arguments.token_over_plaintext,
    )


def _tls(arguments: argparse.Namespace) -> Tls | None:
    files = (arguments.tls_ca, arguments.tls_cert, arguments.tls_key)
    if not arguments.tls and not any(files) and not arguments.tls_server_name:
        return None
    return Tls(*files, server_name=arguments.tls_server_name)


def _token(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"--token-file {path} cannot be read: {error}") from error


def _exit(code: int, message: str) -> None:
    print(f"mlpserve: {shown(message, LONGEST)}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
