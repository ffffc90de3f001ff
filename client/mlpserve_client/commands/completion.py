"""`mlpserve completion`: shell completion for every executable that is installed."""

from __future__ import annotations

import argparse
import subprocess
import sys

EXECUTABLES = {
    "mlpserve": "mlpserve_client.cli.parser",
    "mlpserve-server": "mlpserve_server.cli.parser",
    "mlpserve-store": "mlpserve_server.store_cli.parser",
    "mlpserve-train": "mlpserve_trainer.cli.completed",
}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its flags."""
    completion = commands.add_parser("completion", help="print shell completion for every installed executable")
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    completion.set_defaults(local=run)


def run(arguments: argparse.Namespace) -> int:
    """Generate the completion of each executable from its parser, with shtab."""
    from importlib.util import find_spec

    if find_spec("shtab") is None:
        raise ModuleNotFoundError(name="shtab")
    for program, parser in EXECUTABLES.items():
        if find_spec(parser.partition(".")[0]) is None:
            continue
        command = [sys.executable, "-m", "shtab", "--shell", arguments.shell, "--prog", program]
        command += ["--prefix", program.replace("-", "_"), parser]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode == 0:  # otherwise its packages are not installed
            print(made.stdout)
    return 0
