"""Class labels: their order, what makes two of them one, and what a number among true labels means."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,17}")


def number_of(label: str) -> int | None:
    """The whole number that a label is; None for every other text, "007" among them."""
    return int(label) if _NUMBER.fullmatch(label) else None


def ordered(labels: Iterable[str]) -> list[str]:
    """Labels in the order of their class ids: numbers by their value where all are numbers, otherwise as text."""
    names = list(labels)
    if all(number_of(name) is not None for name in names):
        return sorted(names, key=int)
    return sorted(names)


def normal(label: str) -> str:
    """A label without what cannot be seen: its Unicode form, spaces around it and their number."""
    return " ".join(unicodedata.normalize("NFC", label).split())


def doubled(labels: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of labels that look the same."""
    first: dict[str, str] = {}
    pairs = []
    for label in labels:
        key = normal(label)
        if key in first:
            pairs.append((first[key], label))
        else:
            first[key] = label
    return pairs


def misleading(labels: Sequence[str]) -> str | None:
    """The first label that is a number, but not that of its class; None if there is none.

    Of such a model a whole number among true labels can mean two classes.
    """
    return next((label for place, label in enumerate(labels) if number_of(label) not in (None, place)), None)
