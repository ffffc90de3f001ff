"""What the executables' command lines share: errors in a sentence, and `--version`."""

import argparse
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """Reports wrong usage in a sentence, without the whole usage; its commands are of this class too."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        self.exit(2, f"{self.prog}: {message}. {self.prog} --help lists what there is\n")


class NumberOrOwnVersion(argparse.Action):
    """`--version N` names a model's version; `--version` alone prints the program's."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Keep the number, or print and end."""
        if values is None:
            sys.stdout.write(f"{own_version()}\n")
            parser.exit()
        setattr(namespace, self.dest, values)


def add_version(parser: argparse.ArgumentParser) -> None:
    """Add `--version`, which prints the program's version, where no model's version is asked for."""
    parser.add_argument("--version", action="version", version=own_version(), help="print the version and exit")


def own_version() -> str:
    """Name and version of this distribution."""
    return f"mlpserve {metadata.version('mlpserve')}"
