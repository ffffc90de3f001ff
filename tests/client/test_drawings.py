"""Digits as people draw and photograph them, in a model's form; see tests/support/drawings.py."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from support.mnist import mnist_images
from tests.support.drawings import KINDS, drawing
from tests.support.pictures import png

from mlpserve_client import prepare
from mlpserve_client.errors import InvalidInputError
from mlpserve_client.prepare import from_bytes, from_image
from mlpserve_client.scoring.inputs.rows import Collector
from mlpserve_trainer.config import configure
from mlpserve_trainer.job import train

Answer = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.int64]]


def _answering(store: Path) -> Answer:
    session = ort.InferenceSession(store / "mnist" / "1" / "model.onnx")

    def answer(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
        return np.asarray(session.run(["class_ids"], {"images": images.reshape(len(images), -1)})[0], np.int64)

    return answer


def _wrong(answer: Answer, seeds: range) -> tuple[int, Counter[str]]:
    """How many pictures there were, and the wrong ones by their kind."""
    wrong: Counter[str] = Counter()
    for kind in KINDS:
        images = np.stack([from_image(drawing(kind, digit, seed), 28, 28) for seed in seeds for digit in range(10)])
        digits = np.tile(np.arange(10), len(seeds))
        wrong[kind] = int((answer(images) != digits).sum())
    return len(KINDS) * len(seeds) * 10, +wrong


def test_drawings_are_recognised_after_one_epoch(store: Path) -> None:
    count, wrong = _wrong(_answering(store), range(1))
    assert count >= 160
    assert wrong.total() <= 0.1 * count, wrong
    assert max(wrong.values(), default=0) <= 4, wrong


@pytest.mark.parametrize("width", [2, 22, 40])
@pytest.mark.parametrize("share", [0.5, 0.7, 0.9])
def test_a_single_long_stroke_is_no_ruled_line(width: int, share: float) -> None:
    picture = Image.new("L", (280, 280), 255)
    ends = (140 * (1 - share), 140 * (1 + share))
    ImageDraw.Draw(picture).line((140, ends[0], 140, ends[1]), fill=0, width=width)
    ink = from_image(picture, 28, 28) > 128
    assert ink.any(axis=1).sum() == 20
    assert ink.any(axis=0).sum() <= 7


def test_a_long_bar_stays_part_of_the_sign() -> None:
    picture = Image.new("L", (280, 280), 255)
    pen = ImageDraw.Draw(picture)
    pen.line((20, 40, 260, 40), fill=0, width=20)
    pen.line((260, 40, 120, 270), fill=0, width=20)
    ink = from_image(picture, 28, 28) > 128
    rows = np.flatnonzero(ink.any(axis=1))
    assert ink[rows[0] : rows[0] + 3].any(axis=0).sum() >= 15


@pytest.mark.slow
def test_drawings_are_recognised_by_the_default_model(tmp_path: Path) -> None:
    train(configure("fast", store=tmp_path))
    count, wrong = _wrong(_answering(tmp_path), range(3))
    assert wrong.total() <= 0.05 * count, wrong
    assert max(wrong.values(), default=0) <= 6, wrong


def test_mnists_own_images_are_left_as_they_are() -> None:
    for image in mnist_images()[::5]:
        assert np.array_equal(from_bytes(png(image), 28, 28), image)


@pytest.mark.parametrize("level", [0, 255])
def test_ink_on_nothing(level: int) -> None:
    """White ink on a transparent picture is as good as black ink on one."""
    drawn = np.asarray(drawing("drawn on nothing", 2).getchannel("A"))
    clear = Image.merge("LA", [Image.new("L", drawn.shape[::-1], level), Image.fromarray(drawn)])
    on_paper = from_image(Image.fromarray(255 - drawn), 28, 28)
    assert np.array_equal(from_image(clear, 28, 28), on_paper)


@pytest.mark.parametrize("depth", [2, 40])
@pytest.mark.parametrize("margin", [0, 15])
def test_frames_are_no_ink(depth: int, margin: int) -> None:
    plain = drawing("sixty-four pixels wide", 3).resize((400, 400), Image.Resampling.BICUBIC)
    framed = np.pad(np.pad(np.asarray(plain), depth, constant_values=10), margin, constant_values=255)
    one, other = from_image(plain, 28, 28).astype(int), from_image(Image.fromarray(framed), 28, 28).astype(int)
    assert np.abs(one - other).mean() < 4


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (40, 40), (900, 600)])
def test_paper_without_ink(size: tuple[int, int]) -> None:
    shades = np.linspace(120, 230, size[0])[None, :].repeat(size[1], 0)
    grain = np.random.default_rng(0).normal(0, 2, shades.shape)
    for pixels in (np.full(size[::-1], 255.0), shades, shades + grain):
        with pytest.raises(InvalidInputError, match="no ink found"):
            from_image(Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)), 28, 28)


@settings(max_examples=300, deadline=None)
@given(
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["noise", "two levels", "blocks", "one pixel"]),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_whatever_is_in_a_picture(size: tuple[int, int], seed: int, content: str, model: tuple[int, int]) -> None:
    """Not through `from_bytes`, which holds what nobody foresaw: here it may not happen."""
    random = np.random.default_rng(seed)
    pixels = {
        "noise": lambda: random.integers(0, 256, size),
        "two levels": lambda: random.choice(random.integers(0, 256, 2), size),
        "blocks": lambda: np.kron(random.integers(0, 256, (4, 4)), np.ones((18, 18), int))[: size[0], : size[1]],
        "one pixel": lambda: np.where(np.arange(size[0] * size[1]).reshape(size) == seed % (size[0] * size[1]), 0, 255),
    }[content]()
    try:
        image = from_image(Image.fromarray(pixels.astype(np.uint8)), *model)
    except InvalidInputError:
        return
    assert image.shape == model
    assert image.max() != 1


@pytest.mark.parametrize("size", [(1, 4000), (4000, 1), (2, 3000), (5000, 3)])
def test_slivers(size: tuple[int, int]) -> None:
    pixels = np.full(size[::-1], 250, np.uint8)
    pixels.ravel()[size[0] * size[1] // 2] = 0
    try:
        assert from_image(Image.fromarray(pixels), 28, 28).shape == (28, 28)
    except InvalidInputError as error:
        assert "no ink found" in str(error)


def test_a_reader_that_fails_is_a_bad_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("nobody foresaw this")

    monkeypatch.setattr(prepare, "_prepared", fail)
    with pytest.raises(InvalidInputError, match=r"cannot be prepared \(ZeroDivisionError: nobody foresaw this\)"):
        from_bytes(png(mnist_images()[0]), 28, 28)
    collector = Collector(784)
    collector.add(3, fail)  # type: ignore[arg-type]
    assert collector.errors == {3: ("the reader failed", "ZeroDivisionError: nobody foresaw this")}
