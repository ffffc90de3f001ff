"""Facts: what others build on, one a line. One that goes or changes its value breaks them, unless a rule says not."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

Facts = dict[str, str]
Rule = Callable[[str, str | None, str | None], bool]


class Change(NamedTuple):
    """One fact that is not what it was; None: there is none.

    Attributes:
        key, old, new: the fact.
        breaks: whether somebody who relies on it notices.
        names: what a changelog calls it; any of them will do.
    """

    key: str
    old: str | None
    new: str | None
    breaks: bool
    names: tuple[str, ...]

    def __str__(self) -> str:
        if self.new is None:
            return f"{self.key} is gone"
        return (
            f"{self.key} is new"
            if self.old is None
            else f"{self.key}: {self.old or 'nothing'} → {self.new or 'nothing'}"
        )

    def named_in(self, text: str) -> bool:
        """Whether a text names it."""
        return any(re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text) for name in self.names)


def removal_or_change(key: str, old: str | None, new: str | None) -> bool:
    """The rule of most files: what is added breaks nobody."""
    return old is not None


@dataclass(frozen=True)
class Subject:
    """One file of contract/.

    Attributes:
        file: its name.
        what: what it holds, for messages.
        describe: today's content.
        facts: what a content says.
        breaks: which changes break somebody.
        names: what a changelog calls a fact.
    """

    file: str
    what: str
    describe: Callable[[], str]
    names: Callable[[str], tuple[str, ...]]
    breaks: Rule = removal_or_change
    facts: Callable[[str], Facts] = lambda text: read(text)

    def changes(self, before: str, after: str) -> list[Change]:
        """From one content to another, the breaking ones first."""
        old, new = self.facts(before), self.facts(after)
        changes = [
            Change(key, old.get(key), new.get(key), self.breaks(key, old.get(key), new.get(key)), self.names(key))
            for key in [*old, *(key for key in new if key not in old)]
            if old.get(key) != new.get(key)
        ]
        return sorted(changes, key=lambda change: not change.breaks)


def read(text: str) -> Facts:
    """Facts of lines `KEY: VALUE`."""
    pairs = (line.partition(": ") for line in text.splitlines() if line and not line.startswith("#"))
    return {key.removesuffix(":"): value for key, _, value in pairs}


def write(head: str, facts: Facts) -> str:
    """The content of a file."""
    lines = [f"# {head} Written by `make contract`.", *(f"{key}: {value}".rstrip() for key, value in facts.items())]
    return "\n".join(lines) + "\n"
