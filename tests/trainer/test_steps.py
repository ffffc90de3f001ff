"""Schedule and steps: held against PyTorch's own, and against each other."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.mnist import write_class_folders
from support.processes import free_port
from torch import nn

from mlpserve_trainer.config import TrainConfig
from mlpserve_trainer.data import Dataset, Split, load
from mlpserve_trainer.errors import ConfigError
from mlpserve_trainer.fitting.distributed import Group, from_environment
from mlpserve_trainer.fitting.fit import Fit, fit
from mlpserve_trainer.fitting.placement import Placement
from mlpserve_trainer.fitting.schedule import EPSILON, average_shares, one_cycle
from mlpserve_trainer.networks.build import new_mlp, new_teacher
from mlpserve_trainer.networks.convolutional import ConvNet
from mlpserve_trainer.networks.mlp import Network, normalise

CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads that wait for one another after every small product take minutes on a machine with other work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_class_folders(tmp_path_factory.mktemp("digits"), per_class=40)


@pytest.fixture(scope="module")
def digits(folder: Path) -> Dataset:
    return load(str(folder), cache=folder, validation=0.2, seed=0, image_size=None)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 400), st.floats(1e-5, 1.0))
def test_the_schedule_is_that_of_one_cycle_lr(steps: int, peak: float) -> None:
    optimiser = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=peak)
    total = steps + 1
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimiser, peak, total, pct_start=max(0.1, 1.5 / total))
    ours = one_cycle(steps, peak)
    for rate, momentum in zip(*ours, strict=True):
        group = optimiser.param_groups[0]
        assert np.isclose(rate, group["lr"], rtol=1e-9)
        assert np.isclose(momentum, group["betas"][0], rtol=1e-9)
        optimiser.step()
        theirs.step()


def test_shares_of_the_average() -> None:
    assert np.allclose(average_shares(3, 0.999), [9 / 11, 9 / 12, 9 / 13])
    assert average_shares(2, 0.0).tolist() == [1, 1]
    assert np.isclose(average_shares(20_000, 0.998)[-1], 0.002)


def _fit(network: Network, dataset: Dataset, config: TrainConfig, *, graph: bool) -> Fit[Network]:
    return fit(network, dataset, config, Placement(CPU, graph=graph))


def _first(split: Split, count: int) -> Split:
    return Split(split.images[:count], split.targets[:count])


def _in_float64(network: Network) -> Network:
    """Where two ways of the same arithmetic stay together.

    Adam divides a gradient by its size plus `EPSILON`, 1e-8. In float32 a gradient's rounding, 6e-8, is more than that:
    where the gradient is almost zero, rounding decides the direction of a whole step, and processors round differently.
    In float64 it is 1e-16, which moves a weight by at most 1e-8 of a step.
    """
    network.double().register_forward_pre_hook(lambda module, inputs: (inputs[0].double(),))
    return network


def _rounding(steps: int, config: TrainConfig) -> float:
    """How far rounding may have moved a weight in float64: at most this for a gradient of about 1, in each step."""
    return steps * 2 * config.learning_rate * torch.finfo(torch.float64).eps / EPSILON


def _assert_same(plain: Fit[Network], resident: Fit[Network], within: float) -> None:
    ours, theirs = (result.classifier.mlp.state_dict() for result in (resident, plain))
    for name, value in theirs.items():
        assert torch.allclose(ours[name], value, rtol=0, atol=within), name
    losses = [[epoch.loss for epoch in result.epochs] for result in (plain, resident)]
    assert np.allclose(*losses, rtol=1e-6), "sums in float32"


@pytest.mark.parametrize("batch_size", [16, 50, 1000])
def test_steps_with_everything_on_the_device_are_the_same_steps(digits: Dataset, batch_size: int) -> None:
    """Adam written out, with full and with partial batches, against PyTorch's."""
    config = TrainConfig(epochs=4, batch_size=batch_size)
    plain, resident = (
        _fit(_in_float64(new_mlp(digits, config)), digits, config, graph=graph) for graph in (False, True)
    )
    _assert_same(plain, resident, _rounding(4 * -(-len(digits.train) // batch_size), config))


def test_teachers_with_normalisation_take_the_same_steps(digits: Dataset) -> None:
    """Running statistics are averaged as the weights are, and are what the fitted network uses."""
    few = dataclasses.replace(digits, train=_first(digits.train, 50), validation=_first(digits.validation, 20))
    config = TrainConfig(epochs=2, batch_size=20, teacher_kind="convolutional")
    plain, resident = (_fit(_in_float64(new_teacher(few, config)), few, config, graph=graph) for graph in (False, True))
    _assert_same(plain, resident, _rounding(2 * 3, config))
    network = plain.classifier.mlp
    statistics = [buffer for name, buffer in network.named_buffers() if name.endswith("running_var")]
    assert len(statistics) == 4
    assert all((buffer != 1).all() for buffer in statistics)
    images = normalise(few.validation.images, few.mean, few.deviation)
    alone = torch.cat([network(image[None]) for image in images[:5]])
    assert torch.allclose(alone, network(images)[:5], atol=1e-9), "an answer depends on the image alone"


@pytest.mark.parametrize("make", [new_mlp, new_teacher])
def test_steps_in_float32_are_those_in_float64(digits: Dataset, make: Callable[..., nn.Module]) -> None:
    """By the mean loss of the first epoch, to which no single weight matters."""
    few = dataclasses.replace(digits, train=_first(digits.train, 100), validation=_first(digits.validation, 20))
    config = TrainConfig(epochs=1, batch_size=50, teacher_kind="convolutional")
    exact = _fit(_in_float64(make(few, config)), few, config, graph=False).epochs[0].loss
    for graph in (False, True):
        assert _fit(make(few, config), few, config, graph=graph).epochs[0].loss == pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (5, 9), (28, 28), (64, 48)])
def test_convolutional_teachers_take_images_of_any_size(rows: int, cols: int) -> None:
    assert ConvNet(rows, cols, 3)(torch.rand(2, rows * cols)).shape == (2, 3)


def _torchrun(store: Path, data: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-addr", "127.0.0.1", "--master-port", str(free_port())]
    command += ["-m", "mlpserve_trainer", "--store", str(store), "--data", str(data), "--model", "digits", *flags]
    # Gloo looks for the interface of the host's name, which may have none.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": socket.if_nameindex()[0][1]}
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, check=False)


def test_two_processes_train_one_model(folder: Path, digits: Dataset, tmp_path: Path) -> None:
    """Data-parallel over Gloo: the same model as one process makes, published once."""
    flags = ["--epochs", "3", "--batch-size", "33", "--validation", "0.2"]
    result = _torchrun(tmp_path, folder, *flags)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("Published digits version 1") == 1
    assert "on cpu, 2 processes" in result.stdout
    assert [path.name for path in (tmp_path / "digits").iterdir() if path.is_dir()] == ["1"]
    config = TrainConfig(epochs=3, batch_size=33)
    alone = fit(new_mlp(digits, config), digits, config, Placement(CPU))
    lines = [line.split() for line in result.stdout.splitlines() if line.startswith("Epoch ")]
    losses, accuracies = ([float(line[column].rstrip("%")) for line in lines] for column in (3, 5))
    assert np.allclose(losses, [epoch.loss for epoch in alone.epochs], atol=2e-3)
    # Rounding may decide one of 80 images, and with it which epoch is chosen.
    assert np.allclose(accuracies, [100 * epoch.validation_accuracy for epoch in alone.epochs], atol=2)
    manifest = json.loads((tmp_path / "digits/1/manifest.json").read_text())
    assert any(np.isclose(100 * manifest["training"]["validationAccuracy"], shown, atol=0.01) for shown in accuracies)
    again = _torchrun(tmp_path, folder, *flags, "--if-missing")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("nothing to do") == 1


def test_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert from_environment() == Group()
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ConfigError, match="start with: torchrun"):
        from_environment()
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert from_environment() == Group(3, 4, 1)
