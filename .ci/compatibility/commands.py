"""The command lines: commands, flags with what they take, positional arguments, exit codes."""

import argparse
import os
import re
from collections.abc import Iterator

from compatibility.facts import Subject, write


def describe() -> str:
    """Today's command lines, read from their parsers."""
    before = os.environ.pop("MLPSERVE_SERVER", None)  # a default
    try:
        from mlpserve_client.cli import parser as client
        from mlpserve_server.cli import parser as server
        from mlpserve_server.store_cli import parser as store
        from mlpserve_trainer.cli import compare_parser, sweep_parser
        from mlpserve_trainer.cli import parser as trainer

        parsers = (client(), server(), store(), trainer(), compare_parser(), sweep_parser())
    finally:
        if before is not None:
            os.environ["MLPSERVE_SERVER"] = before
    facts = {key: value for parser in parsers for key, value in of_parser(parser)}
    return write("The command lines: what each flag takes, its choices and default, and exit codes.", facts)


def of_parser(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """The facts of a parser and of its commands."""
    yield parser.prog, ""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from of_parser(command)
        elif action.option_strings:
            yield from _flag(parser, action)
        else:
            yield f"{parser.prog} argument {action.metavar or action.dest}", _takes(action)
    words = re.search(r"Exit codes: (.*?)\.$", parser.epilog or "")
    for code, meaning in re.findall(r"(\d+(?: \+ N)?) ([^,]+)", words[1] if words else ""):
        yield f"{parser.prog} exit {code}", meaning


def _flag(parser: argparse.ArgumentParser, action: argparse.Action) -> Iterator[tuple[str, str]]:
    for option in action.option_strings:
        key = f"{parser.prog} {option}"
        yield key, _takes(action)
        if action.required:
            yield f"{key} required", ""
        yield from ((f"{key} choice {choice}", "") for choice in action.choices or ())
        if action.default not in (None, "", argparse.SUPPRESS) and action.nargs != 0:
            yield f"{key} default", str(action.default)


def _takes(action: argparse.Action) -> str:
    many = {0: "nothing", "?": "a value or nothing", "*": "any number of values", "+": "one or more values"}
    text = "a value" if action.nargs is None else many.get(action.nargs, f"{action.nargs} values")
    return text + (", may be repeated" if isinstance(action, argparse._AppendAction) else "")


def breaks(key: str, old: str | None, new: str | None) -> bool:
    """A default may change, a flag may stop being required or need its value; one that becomes required breaks."""
    if key.endswith(" default"):
        return False
    if (old, new) == ("a value", "a value or nothing"):
        return False
    if key.endswith(" required"):
        return old is None
    if old is None:
        return " argument " in key and new != "any number of values" and new != "a value or nothing"
    return True


def names(key: str) -> tuple[str, ...]:
    """A flag by its name, an exit code by the words."""
    flag = next((word for word in key.split() if word.startswith("-")), None)
    if " exit " in key:
        return ("exit code", "exit codes", "Exit codes")
    return (flag,) if flag else (key, key.split()[-1])


SUBJECT = Subject("commands.txt", "the command lines", describe, names, breaks)
