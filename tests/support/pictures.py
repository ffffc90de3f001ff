"""PNG files in memory, and drawings that look like photographs of a sign: strokes, uneven light, noise, off-centre."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

Strokes = list[list[tuple[float, float]]]

# Corner points in a unit square, x to the right, y down.
DIGITS: dict[int, Strokes] = {
    0: [[(0.5, 0), (0.15, 0.2), (0.05, 0.55), (0.2, 0.9), (0.5, 1), (0.85, 0.85), (0.97, 0.5), (0.85, 0.15), (0.5, 0)]],
    1: [[(0.5, 0), (0.45, 1)]],
    2: [[(0.05, 0.2), (0.35, 0), (0.8, 0.08), (0.85, 0.3), (0.5, 0.65), (0.05, 1), (1, 0.97)]],
    3: [
        [(0.05, 0.1), (0.4, 0), (0.85, 0.12), (0.85, 0.35), (0.4, 0.47)],
        [(0.4, 0.47), (0.85, 0.58), (0.95, 0.8), (0.55, 1), (0.05, 0.9)],
    ],
    4: [[(0.6, 0), (0.05, 0.62), (1, 0.62)], [(0.75, 0.3), (0.72, 1)]],
    5: [[(0.9, 0), (0.2, 0.02), (0.12, 0.42), (0.6, 0.4), (0.95, 0.62), (0.75, 0.95), (0.05, 0.95)]],
    7: [[(0, 0.03), (1, 0), (0.35, 1)]],
}


def png(pixels: npt.NDArray[Any]) -> bytes:
    """The bytes of a PNG file with these pixels."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def photograph(
    digit: int,
    size: tuple[int, int] = (640, 480),
    offset: tuple[int, int] = (330, 60),
    height: int = 260,
    pen: int = 16,
    *,
    bright_ink: bool = False,
) -> Image.Image:
    """Draw a digit of `height` pixels at `offset`; dark on light unless `bright_ink`."""
    ink = Image.new("L", size, 0)
    draw = ImageDraw.Draw(ink)
    for stroke in DIGITS[digit]:
        points = [(offset[0] + 0.7 * height * x, offset[1] + height * y) for x, y in stroke]
        draw.line(points, fill=255, width=pen, joint="curve")
        for x, y in points:
            draw.ellipse([x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2], fill=255)
    amount = np.asarray(ink.filter(ImageFilter.GaussianBlur(1.5)), float) / 255
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    light = 235 - 60 * x / size[0] - 25 * y / size[1]
    pixels = light * (1 - amount) + 50 * amount + np.random.default_rng(1).normal(0, 4, amount.shape)
    pixels = np.clip(pixels, 0, 255).astype(np.uint8)
    return Image.fromarray(255 - pixels if bright_ink else pixels)
