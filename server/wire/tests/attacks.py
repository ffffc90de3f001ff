"""What hostile callers do, and what others see meanwhile."""

import os
import resource
import struct
import zlib
from pathlib import Path

import h2.errors

from http2 import Caller, message
from mlpserve_wire import Limits
from served import ECHO, HOT, PIXELS, PREFIX

OK, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED = 0, 4, 8
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, CONTINUATION, UNKNOWN = 0, 1, 2, 3, 4, 6, 9, 0xBB
CALM = h2.errors.ErrorCodes.ENHANCE_YOUR_CALM
MB = 1 << 20
HALVES = Limits(room=16 * MB, room_of_one=4 * MB, message_seconds=30, pressed_seconds=5, newcomer_seconds=0.3)


def resident() -> int:
    """Bytes of this process; 0 where a sanitizer has its own ways with memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return 0 if "LD_PRELOAD" in os.environ else pages * resource.getpagesize()


def works(caller: Caller) -> bool:
    """Whether a row and an event are answered."""
    row = caller.call(HOT, message(PREFIX + bytes([1]) * PIXELS)).data == message(bytes([PIXELS]))
    return row and caller.call(ECHO, message(b"x")).data == message(b"x")


def claim(caller: Caller, path: str, size: int, sent: int = 0) -> int:
    """Begin a call whose message says that it has a size, and send some of it."""
    stream = caller.begin(path)
    caller.send(stream, struct.pack(">BI", 0, size) + bytes(sent))
    return stream


def bomb(size: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(packer.compress(bytes(MB)) for _ in range(size // MB)) + packer.flush()
