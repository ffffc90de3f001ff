"""Pictures of digits as people draw and photograph them: twelve kinds and more, the same every time.

Each digit is a few curves through points in a unit square, bent and slanted anew for each picture.
"""

import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

Points = npt.NDArray[np.float64]
Grey = npt.NDArray[np.float64]

# x to the right, y down.
CURVES: dict[int, list[list[tuple[float, float]]]] = {
    0: [
        [(0.55, 0), (0.2, 0.15), (0.08, 0.5), (0.2, 0.88), (0.5, 1), (0.82, 0.85), (0.92, 0.5), (0.8, 0.12), (0.55, 0)]
    ],
    1: [[(0.56, 0), (0.52, 0.35), (0.5, 0.7), (0.46, 1)]],
    2: [
        [(0.12, 0.25), (0.25, 0.05), (0.55, 0), (0.8, 0.15), (0.78, 0.4), (0.5, 0.68), (0.1, 0.97)],
        [(0.1, 0.97), (0.95, 0.95)],
    ],
    3: [
        [(0.12, 0.12), (0.4, 0), (0.75, 0.08), (0.78, 0.3), (0.42, 0.46)],
        [(0.42, 0.46), (0.8, 0.55), (0.88, 0.8), (0.55, 1), (0.1, 0.88)],
    ],
    4: [[(0.3, 0), (0.12, 0.58)], [(0.12, 0.58), (0.95, 0.55)], [(0.76, 0.08), (0.7, 1)]],
    5: [
        [(0.85, 0), (0.28, 0.02)],
        [(0.28, 0.02), (0.2, 0.42)],
        [(0.2, 0.42), (0.55, 0.36), (0.85, 0.6), (0.68, 0.92), (0.1, 0.95)],
    ],
    6: [[(0.68, 0), (0.32, 0.25), (0.15, 0.65), (0.3, 0.95), (0.65, 0.97), (0.78, 0.72), (0.55, 0.55), (0.22, 0.68)]],
    7: [[(0.05, 0.05), (0.92, 0.02)], [(0.92, 0.02), (0.6, 0.5), (0.42, 1)]],
    8: [
        [(0.52, 0.46), (0.2, 0.3), (0.3, 0.04), (0.7, 0.03), (0.78, 0.26), (0.52, 0.46)],
        [(0.52, 0.46), (0.2, 0.7), (0.28, 0.97), (0.7, 0.98), (0.8, 0.7), (0.52, 0.46)],
    ],
    9: [
        [(0.8, 0.2), (0.52, 0), (0.2, 0.15), (0.25, 0.42), (0.6, 0.44), (0.8, 0.2)],
        [(0.8, 0.2), (0.76, 0.6), (0.64, 1)],
    ],
}


def curves(digit: int, random: np.random.Generator) -> list[Points]:
    """Its strokes as fine polylines in a unit square, drawn by another hand each time."""
    slant, turn = random.uniform(-0.12, 0.2), random.uniform(-0.08, 0.08)
    wide = random.uniform(0.62, 0.85)
    bend = np.array([[wide, -slant], [turn, 1.0]])
    strokes = []
    for corners in CURVES[digit]:
        points = np.array(corners) + random.normal(0, 0.012, (len(corners), 2))
        points = points if len(points) < 3 else _smooth(points)
        strokes.append((points - 0.5) @ bend.T + 0.5)
    return strokes


def _smooth(corners: Points) -> Points:
    """A curve through the corners (Catmull and Rom)."""
    closed = np.allclose(corners[0], corners[-1], atol=0.08)
    before = corners[-2] if closed else 2 * corners[0] - corners[1]
    after = corners[1] if closed else 2 * corners[-1] - corners[-2]
    padded = np.vstack([before, corners, after])
    parts = []
    for a, b, c, d in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        t = np.linspace(0, 1, 24)[:, None]
        parts.append(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3))
    return np.vstack(parts)


def amount(
    digit: int, random: np.random.Generator, size: tuple[int, int], pen: float, height: float, *, smooth: bool = True
) -> Grey:
    """How much ink is where, 0 to 1, [rows, cols].

    Args:
        digit: which one.
        random: of the hand.
        size: (cols, rows).
        pen: width in pixels.
        height: of the digit, as a share of the smaller side.
        smooth: with soft edges.
    """
    fine = 3 if smooth and max(size) <= 1600 else 1
    ink = Image.new("L", (size[0] * fine, size[1] * fine), 0)
    draw = ImageDraw.Draw(ink)
    tall = height * min(size)
    room = np.array(size) - 1.15 * tall
    corner = 0.075 * tall + np.clip(room * random.uniform(0.3, 0.7, 2), 0, None)
    width = max(1, round(pen * fine))
    for stroke in curves(digit, random):
        points = [tuple(point) for point in ((stroke * tall + corner) * fine).tolist()]
        draw.line(points, fill=255, width=width, joint="curve")
        if width > 2:
            for x, y in (points[0], points[-1]):
                draw.ellipse([x - width / 2, y - width / 2, x + width / 2, y + width / 2], fill=255)
    return np.asarray(ink.resize(size, Image.Resampling.BOX), np.float64) / 255


def shaded(random: np.random.Generator, size: tuple[int, int], bright: float = 225, fall: float = 80) -> Grey:
    """Paper under a lamp: bright in one corner, darker away from it."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    angle = random.uniform(0, 2 * np.pi)
    along = np.cos(angle) * (x / size[0] - 0.5) + np.sin(angle) * (y / size[1] - 0.5)
    light: Grey = bright - fall * (along + 0.5)
    return light


def _image(pixels: Grey) -> Image.Image:
    return Image.fromarray(np.clip(np.round(pixels), 0, 255).astype(np.uint8))


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    file.seek(0)
    return Image.open(file, formats=("JPEG",))


def _on(paper: Grey | float, ink: Grey, dark: float) -> Grey:
    return paper * (1 - ink) + dark * ink


def _thin(digit: int, random: np.random.Generator) -> Image.Image:
    size = int(random.integers(600, 1000))
    return _image(_on(255, amount(digit, random, (size, size), 2, 0.7, smooth=False), 0))


def _hairline(digit: int, random: np.random.Generator) -> Image.Image:
    return _image(_on(255, amount(digit, random, (400, 500), 1, 0.6, smooth=False), 0))


def _huge(digit: int, random: np.random.Generator) -> Image.Image:
    size = (4000, 3000)
    return _image(_on(255, amount(digit, random, size, int(random.integers(2, 6)), 0.6, smooth=False), 20))


def _marker(digit: int, random: np.random.Generator) -> Image.Image:
    return _image(_on(250, amount(digit, random, (600, 600), 40, 0.6), 15))


def _tiny(digit: int, random: np.random.Generator) -> Image.Image:
    return _image(_on(255, amount(digit, random, (64, 64), random.uniform(2, 6), 0.65), 0))


def _ballpoint(digit: int, random: np.random.Generator) -> Image.Image:
    size = (1600, 1200)
    paper = shaded(random, size, 215, 90) + random.normal(0, 3, (size[1], size[0]))
    return _jpeg(_image(_on(paper, amount(digit, random, size, 4, 0.45), 90)), 70)


def _frame(digit: int, random: np.random.Generator) -> Image.Image:
    pixels = _on(240, amount(digit, random, (500, 500), 12, 0.6), 30)
    return _image(np.pad(pixels, int(random.integers(8, 60)), constant_values=25))


def _border(digit: int, random: np.random.Generator) -> Image.Image:
    pixels = _on(255, amount(digit, random, (400, 400), 8, 0.6), 0)
    pixels = np.pad(pixels, 2, constant_values=0)
    return _image(np.pad(pixels, int(random.integers(0, 2)) * 15, constant_values=255))


def _lined(digit: int, random: np.random.Generator) -> Image.Image:
    size = (800, 600)
    paper = np.full((size[1], size[0]), 245.0)
    step = int(random.integers(35, 60))
    for top in range(20, size[1], step):
        paper[top : top + 2] = random.integers(150, 200)
    return _jpeg(_image(np.minimum(paper, _on(245, amount(digit, random, size, 6, 0.55), 30))), 80)


def _squared(digit: int, random: np.random.Generator) -> Image.Image:
    size = (700, 700)
    paper = shaded(random, size, 240, 40)
    paper[10::32] -= 45
    paper[:, 10::32] -= 45
    return _jpeg(_image(np.minimum(paper, _on(paper, amount(digit, random, size, 7, 0.55), 40))), 75)


def _noisy(digit: int, random: np.random.Generator) -> Image.Image:
    return _jpeg(_image(_on(235, amount(digit, random, (300, 300), 5, 0.6), 60)), 8)


def _grainy(digit: int, random: np.random.Generator) -> Image.Image:
    size = (500, 400)
    paper = shaded(random, size, 210, 70)
    return _image(_on(paper, amount(digit, random, size, 6, 0.6), 60) + random.normal(0, 10, (size[1], size[0])))


def _clear(digit: int, random: np.random.Generator) -> Image.Image:
    """White or black ink on nothing."""
    ink = amount(digit, random, (300, 300), 9, 0.65)
    level = 255 * (digit % 2)
    alpha = _image(255 * ink)
    return Image.merge("LA", [Image.new("L", alpha.size, level), alpha]).convert("RGBA")


def _chalk(digit: int, random: np.random.Generator) -> Image.Image:
    size = (900, 700)
    board = 255 - shaded(random, size, 215, 40)
    return _jpeg(_image(_on(board, amount(digit, random, size, 10, 0.6), 225)), 80)


def _far(digit: int, random: np.random.Generator) -> Image.Image:
    """A small digit on a large page."""
    size = (2400, 1800)
    return _image(_on(250, amount(digit, random, size, 5, 0.06), 20))


def _desk(digit: int, random: np.random.Generator) -> Image.Image:
    """A sheet on a dark desk, photographed not quite straight."""
    size = (700, 700)
    pixels = _on(shaded(random, size, 230, 40), amount(digit, random, size, 9, 0.5), 40)
    turned = _image(pixels).rotate(random.uniform(-4, 4), Image.Resampling.BICUBIC, fillcolor=45)
    return _jpeg(turned.filter(ImageFilter.GaussianBlur(1)), 80)


KINDS: dict[str, Callable[[int, np.random.Generator], Image.Image]] = {
    "a pen of two pixels": _thin,
    "a pen of one pixel": _hairline,
    "four thousand pixels wide": _huge,
    "a pen of forty pixels": _marker,
    "sixty-four pixels wide": _tiny,
    "ballpoint in a photograph": _ballpoint,
    "a dark frame": _frame,
    "a border of two pixels": _border,
    "lined paper": _lined,
    "squared paper": _squared,
    "much compressed": _noisy,
    "grainy": _grainy,
    "drawn on nothing": _clear,
    "chalk on a board": _chalk,
    "small on a large page": _far,
    "a sheet on a desk": _desk,
}


def drawing(kind: str, digit: int, seed: int = 0) -> Image.Image:
    """A picture of a digit; the same each time."""
    return KINDS[kind](digit, np.random.default_rng([seed, digit, sorted(KINDS).index(kind)]))
