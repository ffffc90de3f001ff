"""Parts of protobuf messages, written and read without the generated classes."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt


def field(tag: bytes, content: bytes) -> bytes:
    """A length-delimited field."""
    return tag + varint(len(content)) + content


@lru_cache(maxsize=8192)
def varint(value: int) -> bytes:
    """Protobuf's variable-length form of a number."""
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def fill(template: npt.NDArray[np.uint8], gaps: dict[int, npt.NDArray[np.uint8]], count: int) -> npt.NDArray[np.uint8]:
    """Messages that differ from a template in a few places only, [count, bytes].

    Args:
        template: the bytes of one message.
        gaps: place in the template → what stands there, [count, bytes].
        count: of messages.
    """
    rows = np.empty((count, len(template)), np.uint8)
    rows[:] = template
    for place, columns in gaps.items():
        rows[:, place : place + columns.shape[1]] = columns
    return rows


def split(rows: npt.NDArray[np.uint8]) -> list[bytes]:
    """The bytes of each row of an array [N, R]."""
    buffer, length = rows.tobytes(), rows.shape[1]
    return [buffer[start : start + length] for start in range(0, len(buffer), length)]
