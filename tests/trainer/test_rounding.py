"""Rounded weights: whole numbers within their limit, whose sums are nearer than those of the nearest numbers."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpserve_trainer.data import load
from mlpserve_trainer.export import rounding
from mlpserve_trainer.export.rounding import rounded


def _error(weights: np.ndarray, whole: np.ndarray, steps: np.ndarray, inputs: np.ndarray) -> float:
    """Mean squared change of the sums, each unit's mean change aside."""
    change = inputs @ (weights - whole * steps)
    return float((change - change.mean(axis=0)).var())


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    mnist = load("mnist", cache=Path(), validation=1 / 12, seed=0, image_size=None)
    return mnist.train.images[:2048].numpy() / 255


@pytest.mark.parametrize("block", [1024, 100])
def test_sums_over_digits_change_less_than_half_as_much(
    pixels: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    block: int,
) -> None:
    monkeypatch.setattr(rounding, "BLOCK", block)
    weights = np.random.default_rng(0).normal(0, 0.05, (784, 32))
    steps = np.abs(weights).max(axis=0) / 63
    ours, nearest = rounded(weights, steps, 63, pixels), np.rint(weights / steps)
    seen = slice(0, 1024), slice(1024, 2048)
    for images in (pixels[part] for part in seen):
        # The root of the mean square, so a quarter of it is half the change.
        assert _error(weights, ours, steps, images) < 0.25 * _error(weights, nearest, steps, images)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 30), st.integers(1, 5), st.integers(1, 40), st.integers(1, 127), st.integers(0, 2**31))
def test_whole_numbers_within_the_limit(inputs: int, units: int, images: int, limit: int, seed: int) -> None:
    """Also with inputs that never change, fewer images than inputs, and units without weights."""
    random = np.random.default_rng(seed)
    sample = random.normal(0, 1, (images, inputs)) * random.integers(0, 2, inputs)
    weights = random.normal(0, 1, (inputs, units)) * random.integers(0, 2, units)
    steps = np.abs(weights).max(axis=0) / limit
    steps[steps == 0] = 1
    whole = rounded(weights, steps, limit, sample)
    assert np.array_equal(whole, np.rint(whole))
    assert np.abs(whole).max() <= limit
