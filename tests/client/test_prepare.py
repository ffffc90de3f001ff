from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.mnist import mnist_images
from support.processes import ServerProcess
from tests.support.pictures import DIGITS, photograph

from mlpserve_client import Client, InvalidInputError
from mlpserve_client.prepare import from_image, read_image


def test_an_image_in_the_models_form_is_left_alone(tmp_path: Path) -> None:
    image = mnist_images()[0]
    Image.fromarray(image).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png", 28, 28), image)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 380), st.integers(0, 220), st.sampled_from(sorted(DIGITS)), st.booleans())
def test_place_and_polarity_do_not_matter(left: int, top: int, digit: int, bright_ink: bool) -> None:
    picture = photograph(digit, offset=(20 + left, 20 + top), height=200, bright_ink=bright_ink)
    result = from_image(picture, 28, 28).astype(float)
    rows, cols = np.flatnonzero(result.any(axis=1)), np.flatnonzero(result.any(axis=0))
    height, width = rows[-1] - rows[0] + 1, cols[-1] - cols[0] + 1
    assert max(height, width) == 20, "the ink fills 20 x 20"
    assert result.max() == 255
    centre_y = (result.sum(axis=1) * np.arange(28)).sum() / result.sum()
    centre_x = (result.sum(axis=0) * np.arange(28)).sum() / result.sum()
    # A shape whose mass is far from its middle ends at the image's edge.
    assert abs(centre_y - 13.5) <= 2.1
    assert abs(centre_x - 13.5) <= 2.1


@pytest.mark.parametrize("digit", sorted(DIGITS))
def test_photographs_are_recognised(server: ServerProcess, digit: int) -> None:
    variants = [
        photograph(digit),
        photograph(digit, bright_ink=True),
        photograph(digit, size=(300, 1100), offset=(60, 700), height=220, pen=24),
    ]
    with Client(server.address) as client:
        answers = client.predict(np.stack([from_image(picture, 28, 28) for picture in variants]))
    assert answers.class_ids.tolist() == [digit] * 3


def test_other_modes(tmp_path: Path) -> None:
    expected = from_image(photograph(7), 28, 28)
    colour = Image.merge("RGB", [photograph(7)] * 3)
    assert np.array_equal(from_image(colour, 28, 28), expected)
    clear = Image.new("RGBA", (200, 200), (0, 0, 0, 0))
    clear.paste((0, 0, 0, 255), (90, 40, 110, 160))
    assert from_image(clear, 28, 28).max() == 255
    assert from_image(photograph(7), 14, 20).shape == (14, 20)


def test_raw_only_scales() -> None:
    image = Image.fromarray(np.full((56, 56), 200, np.uint8))
    assert np.array_equal(from_image(image, 28, 28, raw=True), np.full((28, 28), 200))


def test_errors(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(InvalidInputError, match=r"text\.png: not a readable image"):
        read_image(tmp_path / "text.png", 28, 28)
    with pytest.raises(InvalidInputError, match=r"none\.png: no such file"):
        read_image(tmp_path / "none.png", 28, 28)
    Image.new("L", (50, 50), 255).save(tmp_path / "blank.png")
    with pytest.raises(InvalidInputError, match=r"blank\.png: no ink found"):
        read_image(tmp_path / "blank.png", 28, 28)
    Image.new("L", (1, 1), 255).save(tmp_path / "dot.png")
    with pytest.raises(InvalidInputError, match="no ink found"):
        read_image(tmp_path / "dot.png", 28, 28)
    whole = tmp_path / "whole.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (99, 99)).astype(np.uint8)).save(whole)
    (tmp_path / "half.png").write_bytes(whole.read_bytes()[:3000])
    with pytest.raises(InvalidInputError, match=r"half\.png: not a readable image"):
        read_image(tmp_path / "half.png", 28, 28)


@pytest.mark.parametrize(("left", "top", "size"), [(1, 1, 26), (0, 0, 28), (0, 8, 20), (8, 0, 20), (9, 9, 10)])
def test_a_picture_of_the_models_size_whose_ink_lies_elsewhere_is_centred(left: int, top: int, size: int) -> None:
    """Bright on black, so that neither its size nor its ground tells."""
    drawn = mnist_images()[0]
    rows, cols = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    ink = Image.fromarray(drawn[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1])
    ink = ink.resize((round(size * ink.width / ink.height), size), Image.Resampling.LANCZOS)
    picture = Image.new("L", (28, 28))
    picture.paste(ink, (left, top))
    result = from_image(picture, 28, 28)
    assert not np.array_equal(result, np.asarray(picture))
    inked = np.flatnonzero((result > 0).any(axis=1))
    assert inked[-1] - inked[0] + 1 == 20
    weights = result / result.sum(dtype=np.float64)
    for axis in (0, 1):
        assert abs((weights.sum(axis=axis) * np.arange(28)).sum() - 13.5) < 0.75
    assert np.array_equal(from_image(Image.fromarray(result), 28, 28), result), "it is left alone from then on"


def test_every_image_of_mnist_is_left_alone() -> None:
    for image in mnist_images()[:2000]:
        assert np.array_equal(from_image(Image.fromarray(image), 28, 28), image)
