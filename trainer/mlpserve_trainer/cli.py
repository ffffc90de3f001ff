"""`mlpserve-train`: train and publish; compare published versions; search for settings.

    mlpserve-train --store store                       # MNIST, 784-256-10
    mlpserve-train --recipe accurate                   # the same network, distilled from a larger one, in minutes
    mlpserve-train --data photos --image-size 28x28    # a folder with one subfolder of images per class
    mlpserve-train compare store/mnist/1 store/mnist/2
    mlpserve-train sweep --vary hidden=128,256,512 --vary learning-rate=3e-4..3e-3
    torchrun --nproc-per-node 2 -m mlpserve_trainer    # data-parallel, publishing once

The last line on standard output is the published folder. Exit codes: 0 published, 1 failed (the last line on standard
error says why), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mlpserve.command_line import Parser, add_version
from mlpserve.terminal import tolerate
from mlpserve_trainer.config import GROUPS, TrainConfig, configure
from mlpserve_trainer.errors import ConfigError, TrainerError

DESCRIPTION = """Train an MLP image classifier and publish it as a checked model artifact.

mlpserve-train compare --help    compare two published versions
mlpserve-train sweep --help      search for hyper-parameters"""
EXIT_CODES = "Exit codes: 0 published, 1 failed, 2 wrong usage, 130 interrupted."


def main() -> None:
    """Entry point of `mlpserve-train`."""
    tolerate()
    arguments = sys.argv[1:]
    commands = {"compare": _compare, "sweep": _sweep}
    command = commands.get(arguments[0]) if arguments else None
    run = command(arguments[1:]) if command else _train(arguments)
    try:
        result = run()
        if result is not None:
            print(result)
    except ModuleNotFoundError as error:
        _exit(2, f"{error.name} is not installed; the trainer needs: pip install 'mlpserve[trainer,cpu]'")
    except TrainerError as error:
        _exit(1, f"{error} (see {error.page})")
    except OSError as error:  # a report, a list of trials or logs outside the store
        _exit(1, f"{error.filename or 'a file'}: {error.strerror or error}")
    except KeyboardInterrupt:
        if command:
            _exit(130, "interrupted")
        _exit(
            130,
            "interrupted; nothing was published. Run the same command with --resume to continue after the last epoch",
        )


# Heavy imports wait until the flags are known to be good, so that --help answers at once.


def _train(arguments: Sequence[str]) -> Callable[[], Path | None]:
    config = _parse(arguments)

    def run() -> Path | None:
        from mlpserve_trainer.job import train

        return train(config)

    return run


def compare_parser() -> argparse.ArgumentParser:
    """The flags of `mlpserve-train compare`."""
    parser = Parser(
        prog="mlpserve-train compare",
        description="Compare two published versions on the same images: accuracy, McNemar's test, disagreements.",
    )
    parser.add_argument("a", type=Path, metavar="A", help="folder of a version, for example store/mnist/1")
    parser.add_argument("b", type=Path, metavar="B", help="folder of the other")
    parser.add_argument("--data", default="", help="data set whose test split to compare on (default: A's data set)")
    parser.add_argument("--image-size", type=_field("image_size").metadata["parse"], metavar="ROWSxCOLS")
    parser.add_argument(
        "--precision", choices=("fp32", "int8"), default="fp32", help="ONNX file to compare (default: fp32)"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="write an HTML report with the images on which they disagree"
    )
    return parser


def _compare(arguments: Sequence[str]) -> Callable[[], Path | None]:
    values = compare_parser().parse_args(arguments)

    def run() -> Path | None:
        from mlpserve_trainer.compare import compare

        return compare(**vars(values))

    return run


def sweep_parser() -> argparse.ArgumentParser:
    """The flags of `mlpserve-train sweep` that are its own."""
    parser = Parser(
        prog="mlpserve-train sweep",
        description="Hyper-parameter search by validation accuracy; the test set stays closed. Every flag of "
        "mlpserve-train may be given as well and applies to all trials.",
    )
    parser.add_argument(
        "--vary",
        action="append",
        required=True,
        metavar="FLAG=VALUES",
        help="flag and values to try: a,b,c (; between sizes: hidden=256;512,256), or a log-uniform range low..high",
    )
    parser.add_argument("--trials", type=int, default=20, metavar="N", help="number of trials (default: 20)")
    parser.add_argument(
        "--sweep-store", default="", metavar="URL", help="Optuna storage, to resume or share a search: sqlite:///x.db"
    )
    parser.add_argument(
        "--ray", metavar="ADDRESS", help="run the trials with Ray Tune on a cluster: its address, auto, or local"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write all trials as JSON")
    return parser


def _sweep(arguments: Sequence[str]) -> Callable[[], Path | None]:
    values, rest = sweep_parser().parse_known_args(arguments)
    config = _parse(rest, prog="mlpserve-train sweep")

    def run() -> Path | None:
        from mlpserve_trainer.sweep import sweep

        return sweep(config, **vars(values))

    return run


def _field(name: str) -> dataclasses.Field[Any]:
    return next(field for field in dataclasses.fields(TrainConfig) if field.name == name)


def _parse(arguments: Sequence[str], prog: str = "mlpserve-train") -> TrainConfig:
    """Turn flags into a configuration; the recipe provides the value of a flag that is not given."""
    flags = parser(prog)
    given = vars(flags.parse_args(arguments))
    try:
        return configure(given.pop("recipe", TrainConfig.recipe), **given)
    except ConfigError as error:
        flags.error(f"{error} (see {error.page})")


def parser(prog: str = "mlpserve-train") -> argparse.ArgumentParser:
    """The flags; one for each field of the configuration."""
    parser = Parser(
        prog=prog,
        description=DESCRIPTION,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_version(parser)
    groups = {title: parser.add_argument_group(title) for title in GROUPS}
    for field in dataclasses.fields(TrainConfig):
        options = dict(field.metadata)
        group = groups[options.pop("group")]
        if field.default not in ("", None, False) and "(default" not in options["help"]:
            shown = f"{field.default:.3g}" if isinstance(field.default, float) else field.default
            options["help"] += f" (default: {shown})"
        if not isinstance(field.default, bool):
            options["type"] = options.pop("parse", type(field.default))
        group.add_argument(f"--{field.name.replace('_', '-')}", default=argparse.SUPPRESS, **options)
    return parser


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command, for shell completion and the reference; "" is training itself."""
    return {"": parser(), "compare": compare_parser(), "sweep": sweep_parser()}


def completed() -> argparse.ArgumentParser:
    """The flags with the commands below them, as shell completion wants them."""
    every = parser()
    commands = every.add_subparsers(metavar="COMMAND")
    for name, command in parsers().items():
        if name:
            commands.add_parser(name, parents=[command], add_help=False, help=command.description)
    return every


def _exit(code: int, message: str) -> None:
    print(f"mlpserve-train: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
