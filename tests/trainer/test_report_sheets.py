"""Sheets of images in the report: people's pictures in their own brightness, titles that fit, all in one picture."""

from io import BytesIO

import numpy as np
from PIL import Image

from mlpserve_trainer.report import figures
from mlpserve_trainer.report.findings import Findings
from mlpserve_trainer.report.sheets import LONGEST, Tile, grey, sheet, short, signed


def _pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(png)).convert("L"))


def _findings(brightness: int) -> Findings:
    """One image, and the answer to it is wrong."""
    return Findings(
        epochs=[],
        published=1,
        confusion=np.array([[0, 1], [0, 0]]),
        images=np.full((1, 28, 28), brightness, np.uint8),
        targets=np.array([0]),
        probabilities=np.array([[0.05, 0.95]], np.float32),
        weights=[],
        top_activating=np.zeros((0, 28, 28), np.float32),
        robustness=[],
    )


def _darkest_share(brightness: int, *, ink: bool) -> float:
    pixels = _pixels(figures.mistakes(_findings(brightness), ["cat", "dog"], ink=ink))
    return float((pixels == 0).mean())


def test_photographs_are_no_negatives_and_ink_is_dark_on_paper() -> None:
    """An image that is all bright takes a good part of the sheet, dark only where it is ink."""
    assert _darkest_share(255, ink=False) < 0.02
    assert _darkest_share(255, ink=True) > 0.1
    assert _darkest_share(0, ink=False) > 0.1


def test_colours_of_weights() -> None:
    red, white, blue = signed(np.array([[1.0, 0.0, -1.0]], np.float32))[0].astype(int)
    assert red[0] > red[2]
    assert blue[2] > blue[0]
    assert white.min() > 240
    assert (grey(np.array([[10]], np.uint8), ink=False) == 10).all()


def test_long_names_are_cut_and_every_tile_is_drawn() -> None:
    assert short("a" * 40) == "a" * (LONGEST - 1) + "…"
    assert short("cat") == "cat"
    black = Tile(np.zeros((8, 8, 3), np.uint8), "true cat\npredicted dog\n(95%)")
    one = (_pixels(sheet([[black]], "", 1.0)) == 0).sum()
    six = (_pixels(sheet([[black] * 3, [black] * 3], "", 1.0)) == 0).sum()
    assert 5.9 < six / one < 6.1
