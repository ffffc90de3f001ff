"""Writes inputs for the fuzzer to begin with: python seeds.py FOLDER."""

import struct
import sys
import zlib
from pathlib import Path

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS = 1, 4


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def block(path: str, **more: str) -> bytes:
    fields = {":method": "POST", ":scheme": "http", ":path": path, "content-type": "application/grpc", "te": "trailers"}
    fields |= {name.replace("_", "-"): value for name, value in more.items()}
    return b"".join(
        b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in fields.items()
    )


def message(payload: bytes, flag: int = 0) -> bytes:
    return struct.pack(">BI", flag, len(payload)) + payload


def call(stream: int, path: str, body: bytes, end: int = END_STREAM, **more: str) -> bytes:
    return frame(HEADERS, END_HEADERS, stream, block(path, **more)) + frame(DATA, end, stream, body)


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    packed = zlib.compressobj(wbits=31)
    gzip = packed.compress(bytes(3000)) + packed.flush()
    inputs = [
        call(1, "/h", message(b"abcdef")) + call(3, "/h", message(b"other"), grpc_timeout="1S"),
        call(1, "/h", message(gzip, 1), grpc_encoding="gzip") + call(3, "/h", message(zlib.compress(b"x"), 1)),
        call(1, "/h", message(b"x" * 5000)[:900], 0) + frame(DATA, END_STREAM, 1, b"x" * 100),
        call(1, "/c", message(b"x"), key="v", one_bin="AAE=,AA") + call(3, "/h", message(b"abcdef"), x="y"),
        call(1, "/s", message(b"a") + message(b"b"), 0) + frame(DATA, END_STREAM, 1, message(gzip, 1)),
        call(1, "/h", message(b"abcdef"), 0) + frame(RST_STREAM, 0, 1, struct.pack(">I", 8)),
        frame(PING, 0, 0, bytes(8)) + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0)) + call(1, "/c", message(b"x")),
        frame(HEADERS, 0, 1, block("/h")[:20]) + frame(CONTINUATION, END_HEADERS, 1, block("/h")[20:]),
        frame(GOAWAY, 0, 0, bytes(8))
        + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1))
        + frame(PRIORITY, 0, 1, bytes(5)),
        call(1, "/h", b"") + call(3, "/nothing", message(b"")) + call(5, "/h", message(b"a") + message(b"b")),
    ]
    for number, text in enumerate(inputs):
        for way in (0x06, 0x02, 0x1E, 0x36):
            (folder / f"{number}-{way:02x}").write_bytes(bytes([way]) + text)


if __name__ == "__main__":
    main()
