"""A run's fits in order: the teachers, where the recipe has any, then the network that is published."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from mlpserve_trainer.checkpoint import Checkpoint, Progress
from mlpserve_trainer.config import TrainConfig
from mlpserve_trainer.convolutional import ConvNet
from mlpserve_trainer.data import Dataset
from mlpserve_trainer.distributed import Group
from mlpserve_trainer.fit import Epoch, Fit, Saved, fit, new_mlp
from mlpserve_trainer.mlp import MLP, Classifier, Network
from mlpserve_trainer.start import ConvStart

OnEpoch = Callable[[str, Epoch, Classifier[Any]], object]
TEACHER_SEEDS = 1_000_003  # apart from each other and from the seeds that people give
CONVOLUTIONAL_RATE = 1.5e-3  # mean step size: normalised layers take larger steps than an MLP


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

    finished = iter(list(progress.finished))

    def fitted(name: str, network: Network, own: TrainConfig, teachers: Sequence[nn.Module] = ()) -> Network:
        """A network that is needed for the published one, fitted now or in the run that is resumed."""
        weights = next(finished, None)
        if weights is not None:
            network.load_state_dict(weights)
            return network.to(device).eval()
        report = _named(on_epoch, name)
        result = fit(network, dataset, own, device, report, group, None, teachers, resume=progress.stage, keep=keep)
        progress.seconds += result.seconds
        progress.finished.append(result.classifier.mlp.state_dict())
        progress.stage = None
        return result.classifier.mlp.to(device)

    teachers: list[nn.Module] = []
    for number in range(config.teachers):
        own = teacher_config(config, number)
        teacher = fitted(f"Teacher {number + 1}/{config.teachers}", new_teacher(dataset, own), own)
        teachers.append(teacher.folded() if isinstance(teacher, ConvNet) else teacher.requires_grad_(False))
    mlp = new_mlp(dataset, config)
    if config.start_channels:
        own = start_config(config)
        fitted("Start", new_start(dataset, own), own, teachers).write_into(mlp.to(device))
    result = fit(
        mlp,
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
    return dataclasses.replace(result, seconds=progress.seconds + result.seconds)


def teacher_config(config: TrainConfig, number: int) -> TrainConfig:
    """The settings of one teacher: a run of its own that learns the labels."""
    return dataclasses.replace(
        config,
        hidden=config.teacher_hidden,
        start_channels=(),
        epochs=config.teacher_epochs,
        learning_rate=CONVOLUTIONAL_RATE if config.teacher_kind == "convolutional" else config.learning_rate,
        seed=(config.seed + (number + 1) * TEACHER_SEEDS) % 2**63,
        teachers=0,
    )


def new_teacher(dataset: Dataset, config: TrainConfig) -> nn.Module:
    """The untrained teacher for a data set, initialised from the configured seed."""
    if config.teacher_kind == "mlp":
        return new_mlp(dataset, config)
    torch.manual_seed(config.seed)
    return ConvNet(dataset.rows, dataset.cols, len(dataset.labels))


def start_config(config: TrainConfig) -> TrainConfig:
    """The settings of the network that the published one begins as: it learns from the same teachers."""
    return dataclasses.replace(
        config,
        epochs=config.start_epochs,
        learning_rate=CONVOLUTIONAL_RATE,
        seed=(config.seed + (config.teachers + 1) * TEACHER_SEEDS) % 2**63,
    )


def new_start(dataset: Dataset, config: TrainConfig) -> ConvStart:
    """The untrained network that the published one begins as, initialised from the configured seed."""
    torch.manual_seed(config.seed)
    return ConvStart(
        dataset.rows, dataset.cols, config.start_channels, config.hidden, len(dataset.labels), config.activation
    )


def identify(dataset: Dataset) -> dict[str, object]:
    """What tells one data set's training images from another's."""
    digest = hashlib.sha256(dataset.train.images.numpy().tobytes())
    digest.update(dataset.train.targets.numpy().tobytes())
    return {"name": dataset.name, "images": len(dataset.train), "sha256": digest.hexdigest()[:16]}


def _named(on_epoch: OnEpoch, stage: str) -> Callable[[Epoch, Classifier[Any]], object]:
    return lambda epoch, classifier: on_epoch(stage, epoch, classifier)
