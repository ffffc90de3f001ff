"""What the axes of an array of images are, and what its values show."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from mlpserve.files.arrays import BadArrayError, is_zero_or_one, layout, row_major, tensors_of, to_grey

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))


@settings(max_examples=200, deadline=None)
@given(SIZES, st.integers(1, 3), st.sampled_from(["plain", "flat", "last", "first", "deep"]))
def test_axes_of_one_count_for_nothing(size: tuple[int, int], count: int, form: str) -> None:
    rows, cols = size
    images = np.arange(count * rows * cols, dtype=np.uint8).reshape(count, rows, cols)
    shape = {
        "plain": (rows, cols),
        "flat": (rows * cols,),
        "last": (rows, cols, 1),
        "first": (1, rows, cols),
        "deep": (1, 1, rows, cols, 1),
    }[form]
    stored = images.reshape(count, *shape)
    assert np.array_equal(layout(shape, size).grey(stored), images)


@settings(max_examples=100, deadline=None)
@given(SIZES, st.sampled_from([3, 4]), st.booleans())
def test_channels_may_be_first_or_last(size: tuple[int, int], channels: int, first: bool) -> None:
    assume(size[0] > 4 and size[1] > 4)
    colour = np.random.default_rng(sum(size)).integers(0, 256, (2, *size, channels)).astype(np.uint8)
    stored = np.moveaxis(colour, 3, 1) if first else colour
    assert np.array_equal(layout(stored.shape[1:], None).grey(stored), to_grey(colour))


@pytest.mark.parametrize(
    ("shape", "size"),
    [((3, 28, 3), None), ((1, 28, 1), None), ((5, 28, 28), (28, 28)), ((), None), ((2, 2, 2, 2), None)],
)
def test_what_could_be_two_things_or_none_is_refused(shape: tuple[int, ...], size: tuple[int, int] | None) -> None:
    with pytest.raises(BadArrayError, match=r"channels first or last|expected"):
        layout(shape, size)


def test_the_models_size_decides_between_two_readings() -> None:
    assert layout((3, 28, 3), (28, 3)).channels == 0
    assert layout((3, 28, 3), (3, 28)).channels == 2
    assert layout((784, 1), (28, 28)).shape == (784, 1)
    assert (layout((14, 56), (28, 28)).rows, layout((14, 56), (28, 28)).cols) == (14, 56)


def test_colour_turns_grey_as_pillow_turns_it() -> None:
    colour = np.random.default_rng(1).integers(0, 256, (50, 40, 3)).astype(np.uint8)
    assert np.array_equal(to_grey(colour), np.asarray(Image.fromarray(colour).convert("L")))
    clear = np.zeros((1, 2, 4), np.uint8)
    clear[0, 1, 3] = 255
    assert to_grey(clear).tolist() == [[255, 0]], "transparent parts are white paper"


def test_order_in_memory() -> None:
    assert row_major((1, 28, 1), fortran=True)
    assert not row_major((1, 28, 28), fortran=True), "one image, but its rows and columns are swapped"
    assert not row_major((2, 28), fortran=True)
    assert row_major((2, 28), fortran=False)


@pytest.mark.parametrize("pixels", [784, 10])
def test_pixels_of_zero_and_one_are_found(pixels: int) -> None:
    images = np.zeros((4, pixels), np.uint8)
    images[1, 3] = 1
    images[2, :2] = 1, 2
    images[3, -1] = 255
    assert is_zero_or_one(images).tolist() == [False, True, False, False]
    assert is_zero_or_one(images[:0]).tolist() == []


@settings(max_examples=60, deadline=None)
@given(st.permutations([0, 1, 2]), st.tuples(*[st.integers(1, 4)] * 3))
def test_tensors_come_in_the_order_that_is_meant(order: list[int], shape: tuple[int, int, int]) -> None:
    meant = np.arange(2 * math.prod(shape)).reshape(2, *shape)
    stored = np.ascontiguousarray(meant.transpose(0, *(axis + 1 for axis in order)))
    permutation = np.argsort(order).tolist()
    kind = pa.fixed_shape_tensor(pa.int64(), stored.shape[1:], permutation=permutation)
    tensors = tensors_of(kind)
    assert tensors is not None
    assert tensors.meant == shape
    assert np.array_equal(tensors.arranged(stored.reshape(2, -1)), meant)
    assert tensors_of(pa.list_(pa.uint8())) is None
