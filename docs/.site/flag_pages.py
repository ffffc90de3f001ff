"""The reference of an executable: a table of flags for each group of its --help, made from its parser."""

import argparse
import html
import re
from collections.abc import Iterator, Mapping


def page(program: str, parsers: Mapping[str, argparse.ArgumentParser]) -> str:
    """The page of an executable.

    Args:
        program: its name.
        parsers: of its commands, by their names; "" is the executable itself.
    """
    parts = [f"# {program}\n"]
    for command, parser in parsers.items():
        if command:
            parts.append(f"## {program} {command}\n")
        parts += _paragraphs(parser.description)
        parts.append(f"```text\n{_usage(parser)}\n```\n")
        for title, rows in _groups(parser):
            table = "".join(f"| {flag} | {text} |\n" for flag, text in rows)
            parts.append(f"| {_escaped(title)} | |\n|---|---|\n{table}")
        parts += _paragraphs(parser.epilog)
    return "\n".join(parts)


def commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """A parser and those of its commands, by their names."""
    found = {"": parser}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found |= action.choices
    return found


def _usage(parser: argparse.ArgumentParser) -> str:
    """The program and what it takes besides flags."""
    words = [parser.prog, "[FLAGS]"]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            words.append("COMMAND …")
        elif not action.option_strings:
            name = _name(action)
            words.append({"+": f"{name} [{name} …]", "*": f"[{name} …]", "?": f"[{name}]"}.get(str(action.nargs), name))
    return " ".join(words)


def _groups(parser: argparse.ArgumentParser) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    titles = {"positional arguments": "Arguments", "options": "Flags"}
    formatter = parser._get_formatter()
    for group in parser._action_groups:
        rows = []
        for action in group._group_actions:
            if action.help == argparse.SUPPRESS or isinstance(action, argparse._HelpAction):
                continue
            if isinstance(action, argparse._SubParsersAction):
                rows += [
                    (_code(f"{parser.prog} {each.dest}"), _text(each.help or "")) for each in action._choices_actions
                ]
                continue
            rows.append((_flag(action), _text(formatter._expand_help(action) if action.help else "")))
        if rows:
            yield titles.get(str(group.title), str(group.title)), rows


def _flag(action: argparse.Action) -> str:
    if not action.option_strings:
        return _code(_name(action))
    value = "" if action.nargs == 0 else f" {_name(action)}"
    if action.nargs == "?":
        value = f" [{_name(action)}]"
    return "<br>".join(_code(name + value) for name in action.option_strings)


def _name(action: argparse.Action) -> str:
    if action.metavar is not None:
        return str(action.metavar)
    if action.choices is not None:
        return ",".join(map(str, action.choices))
    return action.dest.upper() if action.option_strings else action.dest


def _paragraphs(text: str | None) -> list[str]:
    """Running text; lines in columns stay as they are."""
    shown = []
    for paragraph in (text or "").split("\n\n"):
        if re.search(r"\S {3,}\S", paragraph):
            shown.append(f"```text\n{paragraph}\n```\n")
        elif paragraph.strip():
            shown.append(_text(" ".join(paragraph.split())) + "\n")
    return shown


def _text(text: str) -> str:
    """A sentence in which flags are set as code."""
    return re.sub(r"(?<![\w-])--[a-z][\w-]*", lambda match: _code(match[0]), _escaped(text))


def _escaped(text: str) -> str:
    return re.sub(r"([*_\[\]`|\\])", r"\\\1", html.escape(text, quote=False))


def _code(text: str) -> str:
    return f"<code>{html.escape(text, quote=False).replace('|', '&#124;')}</code>"
