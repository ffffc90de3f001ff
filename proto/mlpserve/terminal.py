"""What people see on a terminal, or in a log: text that it cannot show in full, and what takes a while."""

import codecs
import contextlib
import io
import sys
import threading
import time
from collections.abc import Iterator

HANDLER = "mlpserve"
PLAIN = str.maketrans({"→": "->", "◀": "<-", "×": "x", "–": "-", "…": "...", "·": ".", "−": "-", "’": "'"})


PATIENCE = 2.0  # seconds after which somebody wants to know
INTERVAL = 10.0  # seconds between two lines in a log


@contextlib.contextmanager
def during(what: str, *, shown: bool = True) -> Iterator[None]:
    """Say on standard error what is going on, if the block takes more than two seconds.

    On a terminal it is one line that counts the seconds and disappears; elsewhere a line every ten seconds.

    Args:
        what: is going on, as "Drawing the report".
        shown: whether to say anything.
    """
    if not shown:
        yield
        return
    done = threading.Event()
    teller = threading.Thread(target=_tell, args=(what, done), daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()


def _tell(what: str, done: threading.Event) -> None:
    began = time.monotonic()
    if done.wait(PATIENCE):
        return
    on_terminal = sys.stderr.isatty()
    while True:
        line = f"{what} … {time.monotonic() - began:.0f} s"
        sys.stderr.write(f"\r{line}" if on_terminal else f"{line}\n")
        sys.stderr.flush()
        if done.wait(1.0 if on_terminal else INTERVAL):
            break
    if on_terminal:
        sys.stderr.write(f"\r{' ' * (len(line) + 2)}\r")
        sys.stderr.flush()


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
