"""`mlpserve-store`: inspect a store; promote and roll back the version that servers serve.

    mlpserve-store --store store list mnist
    mlpserve-store --store store promote mnist 3
    mlpserve-store --store store rollback mnist

Running servers follow within their `--poll`. Exit codes: 0 done, 1 it could not be done, 2 wrong usage.
"""

import argparse
import sys
from collections.abc import Iterator

from mlpserve.artifact import version_number
from mlpserve.command_line import Parser, add_version
from mlpserve.shown import shown
from mlpserve.terminal import tolerate
from mlpserve_server.errors import StartupError
from mlpserve_server.store import promotion
from mlpserve_server.store.folder import Store
from mlpserve_server.store.object_storage import RemoteStore, open_store
from mlpserve_server.store.summaries import Summaries

LISTED = 100  # versions
AT_ONCE = 100  # versions read before they are printed
LONGEST = 2000  # characters of an error


def main() -> None:
    """Entry point of `mlpserve-store`."""
    tolerate()
    arguments = parser().parse_args()
    model = arguments.model
    try:
        store = open_store(arguments.store)
        if arguments.do == "list":
            for line in _listing(store, model, arguments.limit):
                print(line)
        elif arguments.do == "verify":
            version = store.open(model, arguments.version)
            version.fetch()
            version.verify()
            print(f"{model} version {version.manifest.version}: every file matches its SHA-256 ({version.digest})")
        elif arguments.do == "push":
            version = store.open(model, arguments.version)
            version.fetch()
            version.verify()
            RemoteStore(arguments.url).push(version)
            print(f"{model} version {version.manifest.version} is in {arguments.url} ({version.digest})")
        elif arguments.do == "promote":
            before = promotion.promote(store, model, arguments.version)
            print(f"Servers of {model} follow version {arguments.version} (before: {before})")
        elif arguments.do == "rollback":
            before, now = promotion.rollback(store, model)
            print(f"Servers of {model} follow version {now} (before: {before})")
        else:
            print(f"Servers of {model} follow the newest version, {promotion.follow_newest(store, model)}")
    except StartupError as error:
        sys.exit(f"mlpserve-store: {shown(error, LONGEST)} (see {error.page})")


def parser() -> argparse.ArgumentParser:
    """The commands and their flags."""
    parser: argparse.ArgumentParser = Parser(
        prog="mlpserve-store",
        description="Inspect a model store; promote and roll back the version that its servers serve.",
        epilog="Running servers follow within their --poll. Exit codes: 0 done, 1 failed, 2 wrong usage.",
    )
    parser.add_argument("--store", default="store", metavar="DIR|URL", help="model store (default: store)")
    add_version(parser)
    commands = parser.add_subparsers(dest="do", required=True, title="Commands", metavar="COMMAND")
    for name, help_text, version in (
        ("list", "list the versions of a model, newest first", None),
        ("verify", "check every file of a version against its SHA-256", 0),
        ("push", "copy a version to object storage", 0),
        (
            "promote",
            "switch all servers to a version and hold them there: newer versions wait for their own promotion",
            1,
        ),
        ("rollback", "switch all servers back to the version that they served before", None),
        ("follow-newest", "undo promotion: servers follow the newest version again", None),
    ):
        command = commands.add_parser(name, help=help_text, description=help_text)
        command.add_argument("model", help="model name, for example mnist")
        if version is not None:
            what = "version number" if version else "version number (default: the newest)"
            command.add_argument("version", type=_number, help=what, nargs=None if version else "?", default=0)
        if name == "list":
            command.add_argument(
                "--limit",
                type=_count,
                default=LISTED,
                metavar="N",
                help=f"how many versions to list; 0 lists all (default: {LISTED})",
            )
        if name == "push":
            command.add_argument(
                "--to", dest="url", required=True, metavar="URL", help="destination, for example s3://bucket/models"
            )
    return parser


def _number(text: str) -> int:
    number = version_number(text)
    if number is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a version number (1, 2, …)")
    return number


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of versions (0, 1, …)")
    return int(text)


def _listing(store: Store, model: str, limit: int) -> Iterator[str]:
    (followed, *_), promoted = promotion.candidates(store, model)
    numbers = store.versions(model)
    listed = numbers[:limit] if limit else numbers
    summaries = Summaries(store, model)
    for start in range(0, len(listed), AT_ONCE):
        part = listed[start : start + AT_ONCE]
        for number, summary in zip(part, summaries.of(part), strict=True):
            if isinstance(summary, StartupError):
                yield f"{number:>6}  unreadable: {shown(summary, LONGEST)}"
                continue
            created = summary.created[:16].replace("T", " ")
            mark = ("  ◀ promoted" if promoted else "  ◀ newest") if number == followed else ""
            yield f"{number:>6}  {created:<16}  {summary.test_accuracy:.2%}  {summary.digest[:12]}{mark}"
    if followed not in listed:
        yield f"{followed:>6}  ◀ promoted" + ("" if followed in numbers else ", but missing")
    if len(listed) < len(numbers):
        yield f"… and {len(numbers) - len(listed):,} older versions; --limit 0 lists them all"


if __name__ == "__main__":
    main()
