"""The long recipes: reckoned from a few epochs of each stage, and `best` as a whole."""

import dataclasses
import statistics
import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from bench.gpu.check import Case
from bench.gpu.publishing import train
from mlpserve_trainer.config import TrainConfig, configure
from mlpserve_trainer.data import Dataset, Split, load
from mlpserve_trainer.fitting.fit import fit
from mlpserve_trainer.fitting.placement import Placement, choose_device
from mlpserve_trainer.fitting.stages import start_config, teacher_config
from mlpserve_trainer.networks.build import new_mlp, new_start, new_teacher
from mlpserve_trainer.networks.convolutional import ConvNet

BEST_SECONDS = 180.0
EPOCHS = 3  # of each stage; the first holds what is done once
FEW_IMAGES = 1024


def reckon(case: Case) -> None:
    """Seconds of a whole run: of each stage's later epochs, times their number."""
    device = choose_device(case.kind)
    config = TrainConfig()
    dataset = load("mnist", cache=config.data_cache, validation=config.validation, seed=0, image_size=None)
    whole, epochs = len(dataset.train), EPOCHS
    if case.quick:
        train_split = dataset.train
        few = Split(train_split.images[:FEW_IMAGES], train_split.targets[:FEW_IMAGES])
        dataset, epochs = dataclasses.replace(dataset, train=few), 1
    for recipe in ("accurate", "best"):
        seconds = _stages(dataset, configure(recipe), device, epochs)
        total = sum(seconds.values()) * whole / len(dataset.train)
        shown = f"{total:.0f} s (" + ", ".join(f"{name} {value:.1f}" for name, value in seconds.items()) + ")"
        case.found.add(f"recipe {recipe}, reckoned from {epochs} epochs of each stage", total, shown)


def _stages(dataset: Dataset, config: TrainConfig, device: torch.device, epochs: int) -> dict[str, float]:
    """Seconds of each stage's epochs in a whole run over these images."""
    seconds: dict[str, float] = {}

    def fitted(name: str, network: nn.Module, own: TrainConfig, teachers: Sequence[nn.Module]) -> nn.Module:
        few = dataclasses.replace(own, epochs=epochs)
        result = fit(network, dataset, few, Placement(device), teachers=teachers)
        later = [epoch.seconds for epoch in result.epochs[1:] or result.epochs]
        seconds[name] = statistics.median(later) * own.epochs
        return result.classifier.mlp.to(device)

    own = teacher_config(config, 0)
    teacher = fitted("teacher", new_teacher(dataset, own), own, [])
    teachers = [teacher.folded() if isinstance(teacher, ConvNet) else teacher.requires_grad_(False)]
    if config.start_channels:
        fitted("start", new_start(dataset, config), start_config(config), teachers)
    fitted("the network itself", new_mlp(dataset, config), config, teachers)
    return seconds


def best(case: Case) -> None:
    """The whole recipe, published."""
    flags = ["--recipe", "best"]
    if case.quick:
        flags += ["--data", str(_few_images(case)), "--model", "mnist"]
        flags += ["--epochs", "1", "--start-epochs", "1", "--teacher-epochs", "1"]
    started = time.monotonic()
    train(case, case.work / "best/store", *flags)
    seconds = time.monotonic() - started
    holds = None if case.quick else seconds <= BEST_SECONDS
    what = "the whole recipe best, to its published version"
    case.found.add(what, seconds, f"{seconds:.0f} s", "" if case.quick else f"≤ {BEST_SECONDS:.0f} s", holds)


def _few_images(case: Case) -> str:
    """A file with a part of the images."""
    config = TrainConfig()
    split = load("mnist", cache=config.data_cache, validation=config.validation, seed=0, image_size=None).train
    file = case.work / "few.npz"
    images = split.images[:FEW_IMAGES].numpy().reshape(-1, 28, 28)
    np.savez(file, images=images, labels=split.targets[:FEW_IMAGES].numpy())
    return str(file)
