"""An MLP that begins as a convolutional network."""

import dataclasses
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.mnist import write_class_folders

from mlpserve_trainer.config import TrainConfig
from mlpserve_trainer.data import Dataset, load
from mlpserve_trainer.fitting.fit import validate
from mlpserve_trainer.fitting.placement import Placement
from mlpserve_trainer.fitting.stages import run
from mlpserve_trainer.networks.build import new_mlp
from mlpserve_trainer.networks.convolutional_start import ConvStart, map_sizes
from mlpserve_trainer.networks.mlp import ACTIVATION_MODULES, MLP, Classifier

HERE = Placement(torch.device("cpu"))
small = st.integers(1, 4)


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(st.integers(1, 70), st.integers(1, 40)),
    st.lists(small, min_size=1, max_size=4).map(tuple),
    st.lists(small, max_size=2).map(tuple),
    st.sampled_from(sorted(ACTIVATION_MODULES)),
)
def test_written_out_it_answers_the_same(
    size: tuple[int, int], channels: tuple[int, ...], hidden: tuple[int, ...], activation: str
) -> None:
    rows, cols = size
    torch.manual_seed(0)
    start = ConvStart(rows, cols, channels, hidden, 3, activation)
    start(torch.randn(32, rows * cols))  # normalisations see what they then divide by
    start.eval()
    sizes = map_sizes(rows, cols, channels)
    mlp = MLP(rows * cols, (*sizes, *hidden), 3, activation)
    start.write_into(mlp)
    images = torch.randn(5, rows * cols)
    assert torch.allclose(mlp(images), start(images), atol=1e-4)


def test_matrices_stay_small_with_large_images() -> None:
    assert map_sizes(28, 28, (12, 24, 32)) == (12 * 14 * 14, 24 * 7 * 7, 32 * 7 * 7)
    assert map_sizes(640, 480, (12, 24, 32)) == (12 * 14 * 14, 24 * 7 * 7, 32 * 7 * 7)
    assert map_sizes(5, 20, (4, 4, 4)) == (4 * 5 * 10, 4 * 5 * 5, 4 * 5 * 5)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = write_class_folders(tmp_path_factory.mktemp("digits"), per_class=60)
    return load(str(folder), cache=folder, validation=0.2, seed=1, image_size=None)


def test_what_is_published_is_an_mlp_that_learnt_on_from_there(digits: Dataset, tmp_path: Path) -> None:
    config = TrainConfig(
        store=tmp_path, epochs=1, batch_size=16, start_channels=(4, 6), start_epochs=20, hidden=(16,), average=0.9
    )
    seen: list[tuple[str, float]] = []
    fit = run(
        new_mlp(digits, config),
        digits,
        config,
        HERE,
        lambda stage, epoch, _: seen.append((stage, epoch.validation_loss)),
    )
    mlp = fit.classifier.mlp
    assert mlp.sizes == new_mlp(digits, config).sizes == (digits.rows * digits.cols, 4 * 14 * 14, 6 * 7 * 7, 16, 10)
    assert [stage for stage, _ in seen] == ["Start"] * 20 + [""]
    at_random = Classifier(new_mlp(digits, config), digits.mean, digits.deviation)
    assert seen[-1][1] < validate(at_random, digits.validation)[0] / 2
    # No weight is held to the convolution's zeros: those of a unit at the picture's edge reach beyond its kernel.
    assert (mlp.linears[0].weight != 0).float().mean() > 0.5


def test_without_steps_it_is_the_network_it_began_as(digits: Dataset, tmp_path: Path) -> None:
    config = TrainConfig(store=tmp_path, epochs=1, batch_size=16, start_channels=(4,), start_epochs=2, hidden=())
    losses: list[float] = []
    still = dataclasses.replace(config, learning_rate=1e-12)
    run(new_mlp(digits, still), digits, still, HERE, lambda stage, epoch, _: losses.append(epoch.validation_loss))
    assert losses[-1] == pytest.approx(min(losses[:2]), rel=0.05)
