"""`mlpserve-store`: what is in a store, and which version servers serve.

    mlpserve-store --store store list mnist
    mlpserve-store --store store promote mnist 3
    mlpserve-store --store store rollback mnist

Running servers follow within their `--poll`. Exit codes: 0 done, 1 it could not be done, 2 wrong usage.
"""

import argparse
import sys

from mlpserve_server import promotion
from mlpserve_server.errors import StartupError
from mlpserve_server.remote import RemoteStore, open_store
from mlpserve_server.store import Store


def main() -> None:
    """Entry point of `mlpserve-store`."""
    arguments = parser().parse_args()
    model = arguments.model
    try:
        store = open_store(arguments.store)
        if arguments.do == "list":
            print("\n".join(_listing(store, model)))
        elif arguments.do == "verify":
            version = store.open(model, arguments.version)
            version.fetch()
            version.verify()
            print(f"{model} version {version.manifest.version}: every file is as it was published ({version.digest})")
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
        sys.exit(f"mlpserve-store: {error} (see {error.page})")


def parser() -> argparse.ArgumentParser:
    """The commands and their flags."""
    parser = argparse.ArgumentParser(
        prog="mlpserve-store", description="What is in a store, and which version servers serve."
    )
    parser.add_argument("--store", default="store", metavar="DIR|URL", help="(default: store)")
    commands = parser.add_subparsers(dest="do", required=True, metavar="COMMAND")
    for name, help_text, version in (
        ("list", "versions of a model, newest first", None),
        ("verify", "check every file of a version against its digest", 0),
        ("push", "copy a version into object storage", 0),
        ("promote", "make servers serve a version, and no newer one until it is promoted too", 1),
        ("rollback", "make servers serve the version that they served before", None),
        ("follow-newest", "make servers serve the newest version, as they do before anything is promoted", None),
    ):
        command = commands.add_parser(name, help=help_text, description=help_text)
        command.add_argument("model", help="for example mnist")
        if version is not None:
            what = "version number" if version else "version number; the newest if it is left out"
            command.add_argument("version", type=_number, help=what, nargs=None if version else "?", default=0)
        if name == "push":
            command.add_argument(
                "--to", dest="url", required=True, metavar="URL", help="for example s3://bucket/models"
            )
    return parser


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a version number (1, 2, …)")
    return int(text)


def _listing(store: Store, model: str) -> list[str]:
    (followed, *_), promoted = promotion.candidates(store, model)
    lines = []
    for number in store.versions(model):
        try:
            version = store.open(model, number)
        except StartupError as error:
            lines.append(f"{number:>6}  unreadable: {error}")
            continue
        accuracy = version.manifest.evaluations[0].test_accuracy if version.manifest.evaluations else 0
        created = version.manifest.created.ToDatetime().strftime("%Y-%m-%d %H:%M")
        mark = ("  ◀ promoted" if promoted else "  ◀ newest") if number == followed else ""
        lines.append(f"{number:>6}  {created}  {accuracy:.2%}  {version.digest[:12]}{mark}")
    return lines


if __name__ == "__main__":
    main()
