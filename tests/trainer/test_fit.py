import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.mnist import write_class_folders

from mlpserve_trainer.config import TrainConfig
from mlpserve_trainer.data import Dataset, load
from mlpserve_trainer.errors import ConfigError
from mlpserve_trainer.fitting.fit import Epoch, Fit, choose, fit, validate
from mlpserve_trainer.fitting.placement import Placement, choose_device
from mlpserve_trainer.networks.build import new_mlp

HERE = Placement(torch.device("cpu"))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = write_class_folders(tmp_path_factory.mktemp("digits"), per_class=40)
    return load(str(folder), cache=folder, validation=0.2, seed=0, image_size=None)


def _fit(dataset: Dataset, **settings: object) -> Fit:
    config = TrainConfig(**{"epochs": 8, "batch_size": 16, **settings})  # type: ignore[arg-type]
    return fit(new_mlp(dataset, config), dataset, config, HERE)


def test_it_learns_and_reports_every_epoch(digits: Dataset) -> None:
    epochs: list[Epoch] = []
    config = TrainConfig(epochs=8, batch_size=16)
    result = fit(new_mlp(digits, config), digits, config, HERE, on_epoch=lambda epoch, _: epochs.append(epoch))
    assert tuple(epochs) == result.epochs
    assert [epoch.number for epoch in epochs] == list(range(1, 9))
    assert epochs[-1].loss < 0.3 * epochs[0].loss
    _, accuracy = validate(result.classifier, digits.test)
    assert accuracy > 0.7


def test_published_weights_are_those_of_the_chosen_epoch(digits: Dataset) -> None:
    result = _fit(digits)
    assert validate(result.classifier, digits.validation) == (
        result.chosen.validation_loss,
        result.chosen.validation_accuracy,
    )
    assert result.chosen is choose(result.epochs, len(digits.validation))


def test_of_epochs_that_are_alike_the_last_is_chosen() -> None:
    """A standard error of 5,000 images is 0.1 points at 99.5 %: two images more are chance, twenty are not."""
    assert _choose(0.9800, 0.9954, 0.9950) == 3
    assert _choose(0.9800, 0.9954, 0.9914) == 2
    assert _choose(0.9800, 0.9954, 0.9950, 0.9800) == 3
    assert _choose(1.0, 0.9999) == 1
    assert _choose(0.0) == 1


@given(st.lists(st.integers(0, 200), min_size=1, max_size=20))
def test_going_on_chooses_the_same(right: list[int]) -> None:
    """A fit keeps the weights of the chosen epoch alone: one that was passed over must never be chosen later."""
    shares = [count / 200 for count in right]
    chosen = 0
    for number in range(1, len(shares) + 1):
        if _choose(*shares[:number], images=200) == number:
            chosen = number
        assert _choose(*shares[:number], images=200) == chosen


def _choose(*accuracies: float, images: int = 5000) -> int:
    epochs = [Epoch(number, 0, 0, share, 0) for number, share in enumerate(accuracies, start=1)]
    return choose(epochs, images).number


def test_same_seed_gives_the_same_weights(digits: Dataset) -> None:
    first, second, other = _fit(digits, seed=3), _fit(digits, seed=3), _fit(digits, seed=4)
    weights = [result.classifier.mlp.linears[0].weight for result in (first, second, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_two_classes_without_hidden_layer_are_a_single_neuron(tmp_path: Path) -> None:
    folder = write_class_folders(tmp_path / "d", per_class=60, classes=2)
    dataset = load(str(folder), cache=tmp_path, validation=0.2, seed=0, image_size=None)
    result = _fit(dataset, hidden=(), activation="sigmoid", epochs=20)
    assert result.classifier.mlp.parameter_count() == 785
    _, accuracy = validate(result.classifier, dataset.test)
    assert accuracy > 0.9


@pytest.mark.parametrize(("epochs", "batch_size"), [(1, 1000), (9, 1000), (3, 100), (1, 32)])
def test_any_number_of_steps(digits: Dataset, epochs: int, batch_size: int) -> None:
    """The schedule's climb is a tenth of the steps, however few there are."""
    result = _fit(digits, epochs=epochs, batch_size=batch_size)
    assert len(result.epochs) == epochs


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_cuda_without_a_gpu_is_refused() -> None:
    with pytest.raises(ConfigError, match="--device cuda: PyTorch finds no usable NVIDIA GPU"):
        choose_device("cuda")
    assert choose_device("auto").type == "cpu"


Setting = tuple[Any, str]
EXACT: list[tuple[Setting, bool]] = [
    ((torch.backends.cudnn, "deterministic"), True),
    ((torch.backends.cudnn, "benchmark"), False),
    ((torch.backends.cudnn, "allow_tf32"), False),
    ((torch.backends.cuda.matmul, "allow_tf32"), False),
]


@pytest.fixture
def inexact() -> Iterator[None]:
    """PyTorch's settings as a caller might have left them."""
    before = [getattr(*setting) for setting, _ in EXACT]
    for setting, value in EXACT:
        setattr(*setting, not value)
    yield
    for (setting, _), value in zip(EXACT, before, strict=True):
        setattr(*setting, value)


def test_on_a_gpu_the_same_seed_gives_the_same_model(inexact: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as a machine without one can show: nothing that sums in any order, or rounds to ten bits, is allowed."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: None)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    choose_device("cpu")
    assert [getattr(*setting) for setting, _ in EXACT] == [not value for _, value in EXACT]
    assert choose_device("auto").type == "cuda"
    assert [getattr(*setting) for setting, _ in EXACT] == [value for _, value in EXACT]
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_a_gpu_for_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match="process 2 of this machine has no GPU of its own"):
        choose_device("auto", 2)
