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


def fill(template: npt.NDArray[np.uint8], gaps: dict[int, npt.NDArray[np.uint8]], count: int) -> list[bytes]:
    """Messages that differ from a template in a few places only.

    Args:
        template: the bytes of one message.
        gaps: place in the template → what stands there, [count, bytes].
        count: of messages.
    """
    rows, length = np.empty((count, len(template)), np.uint8), len(template)
    rows[:] = template
    for place, columns in gaps.items():
        rows[:, place : place + columns.shape[1]] = columns
    buffer = rows.tobytes()
    return [buffer[start : start + length] for start in range(0, count * length, length)]
