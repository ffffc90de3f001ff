"""Pictures of every depth, with and without alpha, as grey bytes."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from mlpserve.files.pictures import PictureError, read, to_grey

RAMP = np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8)


def _grey(image: Image.Image, kind: str) -> np.ndarray:  # type: ignore[type-arg]
    file = io.BytesIO()
    image.save(file, kind)
    return np.asarray(read(file.getvalue()).grey)


def _tiff(bits: int, pixels: list[int]) -> bytes:
    """An uncompressed grey TIFF of one row."""
    text = "".join(f"{value:0{bits}b}" for value in pixels)
    data = int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big")
    tags = [
        (256, 3, len(pixels)),
        (257, 3, 1),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8 + 2 + 12 * 9 + 4),
        (277, 3, 1),
        (278, 3, 1),
        (279, 4, len(data)),
    ]
    entries = b"".join(
        struct.pack("<HHI", tag, kind, 1)
        + struct.pack("<I" if kind == 4 else "<HH", *([value] if kind == 4 else [value, 0]))
        for tag, kind, value in tags
    )
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data


def test_twelve_bits_are_as_bright_as_eight() -> None:
    assert np.asarray(read(_tiff(12, [0, 2048, 4095, 16])).grey).tolist() == [[0, 127, 255, 0]]
    assert np.asarray(read(_tiff(8, [0, 128, 255, 1])).grey).tolist() == [[0, 128, 255, 1]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits(kind: str) -> None:
    assert np.array_equal(_grey(Image.fromarray(RAMP.astype(np.uint16) * 257), kind), RAMP)


def test_a_deep_pgm_with_another_maximum() -> None:
    content = b"P5\n4 1\n1023\n" + struct.pack(">4H", 0, 512, 1023, 4)
    assert np.asarray(read(content).grey).tolist() == [[0, 127, 255, 0]]


@pytest.mark.parametrize("mode", ["F", "I"])
def test_other_depths_are_refused(mode: str) -> None:
    with pytest.raises(PictureError, match=f"pixels of mode {mode}; expected 8 or 16 bits"):
        to_grey(Image.fromarray(RAMP).convert(mode))


def test_paper_behind_what_is_transparent() -> None:
    clear = np.zeros((4, 4, 4), np.uint8)
    clear[1, 1] = (0, 0, 0, 255)
    assert np.asarray(to_grey(Image.fromarray(clear)))[:2, :2].tolist() == [[255, 255], [255, 0]]
    clear[1, 1] = (255, 255, 255, 255)
    assert np.asarray(to_grey(Image.fromarray(clear)))[:2, :2].tolist() == [[0, 0], [0, 255]]
    clear[1, 2] = (255, 0, 0, 255)  # red is seen on white as well as on black
    assert np.asarray(to_grey(Image.fromarray(clear)))[0, 0] == 255
    opaque = np.full((4, 4, 4), 255, np.uint8)
    assert (np.asarray(to_grey(Image.fromarray(opaque))) == 255).all()
