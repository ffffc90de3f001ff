"""Class names in figures: a font that has their letters, or numbers where no font here does."""

from collections.abc import Sequence
from functools import cache

import matplotlib
from matplotlib import font_manager, ft2font

PLAIN = "DejaVu Sans"  # comes with Matplotlib
BOXES = ("Last Resort", ".LastResort", "Adobe Blank")  # have a box, or nothing, for every letter there is


def drawable(labels: Sequence[str]) -> list[str]:
    """Labels as figures can show them: as they are, in a font that has their letters, or as class ids.

    The reports list ids and names beside one another.
    """
    needed = {ord(letter) for label in labels for letter in label if letter.isprintable() and letter != " "}
    missing = needed - _letters(font_manager.findfont(PLAIN))
    if not missing and all(label.isprintable() for label in labels):
        return list(labels)
    if missing and (name := _font_with(frozenset(missing))) is not None:
        matplotlib.rcParams["font.family"] = [PLAIN, name]
        return list(labels)
    return [str(number) for number in range(len(labels))]


@cache
def _font_with(letters: frozenset[int]) -> str | None:
    """A font of this machine that has letters; None if none has them all."""
    for entry in font_manager.fontManager.ttflist:
        if entry.name.startswith(BOXES):
            continue
        try:
            if letters <= _letters(entry.fname):
                return str(entry.name)
        except (OSError, RuntimeError):  # a damaged font
            continue
    return None


@cache
def _letters(path: str) -> frozenset[int]:
    return frozenset(ft2font.FT2Font(path).get_charmap())
