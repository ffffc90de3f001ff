r"""Names of files and folders that are not UTF-8, as text that everything can hold.

Python reads a byte that is no UTF-8 as a lone surrogate, which no protobuf message, JSON document, Parquet file or
terminal takes. Here it becomes its escape: caf\xe9. What already looks like an escape has its backslash escaped
(\x5cxe9), so that two names never become one and `raw` gives the name back.
"""

import re

_LONE = re.compile(r"[\udc80-\udcff]|\\(?=x[0-9a-f]{2})")
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")


def text(name: str) -> str:
    """A name as Python reads it from the system, as text."""
    if name.isascii() and "\\" not in name:
        return name
    return _LONE.sub(lambda found: f"\\x{ord(found[0]) & 0xFF:02x}", name)


def raw(name: str) -> str:
    """The name that `text` was given, to open it."""
    return _ESCAPE.sub(_unescaped, name)


def _unescaped(found: re.Match[str]) -> str:
    value = int(found[1], 16)
    return chr(value) if value < 0x80 else chr(0xDC00 + value)
