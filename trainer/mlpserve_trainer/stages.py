"""A run's fits in order: the teachers, where the recipe has any, then the network that is published."""

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from mlpserve_trainer.checkpoint import Checkpoint, Progress
from mlpserve_trainer.config import TrainConfig
from mlpserve_trainer.convolutional import ConvNet
from mlpserve_trainer.data import Dataset
from mlpserve_trainer.distributed import Group
from mlpserve_trainer.fit import Epoch, Fit, Saved, fit, new_mlp
from mlpserve_trainer.mlp import MLP, Classifier

OnEpoch = Callable[[str, Epoch, Classifier[Any]], object]
TEACHER_SEEDS = 1_000_003  # apart from each other and from the seeds that people give
CONVOLUTIONAL_RATE = 3.0  # times the learning rate: normalised layers take larger steps


def run(
    dataset: Dataset,
    config: TrainConfig,
    device: torch.device,
    on_epoch: OnEpoch = lambda stage, epoch, classifier: None,
    group: Group | None = None,
    checkpoint: Checkpoint | None = None,
) -> Fit[MLP]:
    """Fit everything that a configuration asks for.

    Args:
        dataset: train and validation splits are used.
        config: settings of the run.
        device: where to train.
        on_epoch: called with the stage's name ("" for the published network), the epoch and its classifier.
        group: the processes that train together.
        checkpoint: kept after each epoch, and gone on from with `--resume`.

    Raises:
        ConfigError: the checkpoint is of a run with other settings.
        PublishError: the checkpoint cannot be written.
    """
    group = group or Group()
    progress = (checkpoint.load() if checkpoint is not None and config.resume else None) or Progress([])

    def keep(saved: Saved) -> None:
        progress.stage = saved
        if checkpoint is not None and group.rank == 0:
            checkpoint.save(progress)

    teachers: list[nn.Module] = []
    seconds = 0.0
    for number in range(config.teachers):
        own = teacher_config(config, number)
        teacher = new_teacher(dataset, own)
        if number < len(progress.finished):
            teacher.load_state_dict(progress.finished[number])
        else:
            name = f"Teacher {number + 1}/{config.teachers}"
            fitted = fit(teacher, dataset, own, device, _named(on_epoch, name), group, resume=progress.stage, keep=keep)
            teacher, seconds = fitted.classifier.mlp, seconds + fitted.seconds
            progress.finished.append(teacher.state_dict())
            progress.stage = None
        teachers.append(teacher.requires_grad_(False).to(device).eval())
    result = fit(
        new_mlp(dataset, config),
        dataset,
        config,
        device,
        _named(on_epoch, ""),
        group,
        teachers=teachers,
        resume=progress.stage,
        keep=keep,
        publish_on_interrupt=config.on_interrupt == "publish",
    )
    return dataclasses.replace(result, seconds=seconds + result.seconds)


def teacher_config(config: TrainConfig, number: int) -> TrainConfig:
    """The settings of one teacher: a run of its own that learns the labels."""
    return dataclasses.replace(
        config,
        hidden=config.teacher_hidden,
        epochs=config.teacher_epochs,
        learning_rate=config.learning_rate * (CONVOLUTIONAL_RATE if config.teacher_kind == "convolutional" else 1),
        seed=(config.seed + (number + 1) * TEACHER_SEEDS) % 2**63,
        teachers=0,
    )


def new_teacher(dataset: Dataset, config: TrainConfig) -> nn.Module:
    """The untrained teacher for a data set, initialised from the configured seed."""
    if config.teacher_kind == "mlp":
        return new_mlp(dataset, config)
    torch.manual_seed(config.seed)
    return ConvNet(dataset.rows, dataset.cols, len(dataset.labels))


def identify(dataset: Dataset) -> dict[str, object]:
    """What tells one data set's training images from another's."""
    digest = hashlib.sha256(dataset.train.images.numpy().tobytes())
    digest.update(dataset.train.targets.numpy().tobytes())
    return {"name": dataset.name, "images": len(dataset.train), "sha256": digest.hexdigest()[:16]}


def _named(on_epoch: OnEpoch, stage: str) -> Callable[[Epoch, Classifier[Any]], object]:
    return lambda epoch, classifier: on_epoch(stage, epoch, classifier)
