"""How a picture is to be turned, out of its EXIF block or XMP text, and nothing else of either.

Cameras and editors write blocks that break their own rules, in tags that nobody here asks for. Pillow reads the whole
block, and writes it again to take the orientation out; this reads one number.
"""

import re

TAG = 0x0112
SIZES = {1: 1, 3: 2, 4: 4}  # of the types that a small whole number may have: BYTE, SHORT, LONG
UPRIGHT = 1
XMP = re.compile(rb"tiff:Orientation(?:=\"|>)([1-8])")


def of_exif(block: bytes) -> int:
    """1 to 8, as EXIF counts them; 1 where the block says nothing that can be understood."""
    block = block.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "little", b"MM\0*": "big"}.get(block[:4])
    if order is None:
        return UPRIGHT

    def number(start: int, size: int) -> int:
        return int.from_bytes(block[start : start + size], order)  # type: ignore[arg-type]

    start = number(4, 4)
    for index in range(min(number(start, 2), 1000)):
        entry = start + 2 + 12 * index
        if len(block) < entry + 12:
            break
        if number(entry, 2) == TAG:
            size = SIZES.get(number(entry + 2, 2))
            value = number(entry + 8, size) if size and number(entry + 4, 4) == 1 else UPRIGHT
            return value if 1 <= value <= 8 else UPRIGHT
    return UPRIGHT


def of_xmp(text: bytes) -> int:
    """The same of XMP."""
    found = XMP.search(text)
    return int(found[1]) if found else UPRIGHT


def unhexed(profile: object) -> bytes:
    """An EXIF block that a PNG file holds as lines of hexadecimal text behind its name and length."""
    if not isinstance(profile, str):
        return b""
    try:
        return bytes.fromhex("".join(profile.split("\n")[3:]))
    except ValueError:
        return b""
