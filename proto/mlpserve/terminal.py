"""Text for terminals and files that cannot show all of it: another character in place of a traceback."""

import codecs
import contextlib
import io
import sys

HANDLER = "mlpserve"
PLAIN = str.maketrans({"→": "->", "◀": "<-", "×": "x", "–": "-", "…": "...", "·": ".", "−": "-", "’": "'"})


def tolerate() -> None:
    """Let standard output and error take any text: what they lack becomes its like in ASCII, or an escape."""
    codecs.register_error(HANDLER, _plain)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, io.UnsupportedOperation):  # something else in their place
            stream.reconfigure(errors=HANDLER)  # type: ignore[union-attr]


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_escaped(character.translate(PLAIN)) for character in text), error.end


def _escaped(text: str) -> str:
    if text.isascii():
        return text
    if "\udc80" <= text <= "\udcff":  # a byte that is no text, as names may have
        return f"\\x{ord(text) & 0xFF:02x}"
    return text.encode("ascii", "backslashreplace").decode()
