"""The stages of a run in order: the recipe's teachers, if any, then the network that is published."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from mlpserve_trainer.config import TrainConfig
from mlpserve_trainer.data import Dataset
from mlpserve_trainer.fitting.checkpoint import Checkpoint, Progress
from mlpserve_trainer.fitting.fit import Epoch, Fit, Saved, fit
from mlpserve_trainer.fitting.placement import Placement
from mlpserve_trainer.networks.build import new_start, new_teacher
from mlpserve_trainer.networks.convolutional import ConvNet
from mlpserve_trainer.networks.mlp import MLP, Classifier, Network

OnEpoch = Callable[[str, Epoch, Classifier[Any]], object]
TEACHER_SEEDS = 1_000_003  # distinct from one another and from the seeds that people use
CONVOLUTIONAL_RATE = 1.5e-3  # mean learning rate: layers with batch normalisation take larger steps than an MLP


def run(
    mlp: MLP,
    dataset: Dataset,
    config: TrainConfig,
    placement: Placement,
    on_epoch: OnEpoch = lambda stage, epoch, classifier: None,
    checkpoint: Checkpoint | None = None,
) -> Fit[MLP]:
    """Train every network of a configuration.

    Args:
        mlp: the network to publish, untrained; it is modified.
        dataset: its training and validation splits are used.
        config: settings of the run.
        placement: where to train.
        on_epoch: called with the stage's name ("" for the published network), the epoch and its classifier.
        checkpoint: saved after each epoch, and loaded with `--resume`.

    Raises:
        ConfigError: the checkpoint has different settings.
        PublishError: the checkpoint cannot be written.
    """
    progress = (checkpoint.load() if checkpoint is not None and config.resume else None) or Progress([])

    def keep(saved: Saved) -> None:
        progress.stage = saved
        if checkpoint is not None and placement.leads:
            checkpoint.save(progress)

    finished = iter(list(progress.finished))

    def fitted(name: str, network: Network, own: TrainConfig, teachers: Sequence[nn.Module] = ()) -> Network:
        """A network that the published one needs: trained now, or loaded from the checkpoint."""
        weights = next(finished, None)
        if weights is not None:
            network.load_state_dict(weights)
            return network.to(placement.device).eval()
        report = _named(on_epoch, name)
        result = fit(network, dataset, own, placement, report, teachers=teachers, resume=progress.stage, keep=keep)
        progress.seconds += result.seconds
        progress.finished.append(result.classifier.mlp.state_dict())
        progress.stage = None
        return result.classifier.mlp.to(placement.device)

    teachers: list[nn.Module] = []
    for number in range(config.teachers):
        own = teacher_config(config, number)
        teacher = fitted(f"Teacher {number + 1}/{config.teachers}", new_teacher(dataset, own), own)
        teachers.append(teacher.folded() if isinstance(teacher, ConvNet) else teacher.requires_grad_(False))
    if config.start_channels:
        own = start_config(config)
        fitted("Start", new_start(dataset, own), own, teachers).write_into(mlp.to(placement.device))
    report = _named(on_epoch, "")
    result = fit(mlp, dataset, config, placement, report, teachers=teachers, resume=progress.stage, keep=keep)
    return dataclasses.replace(result, seconds=progress.seconds + result.seconds)


def teacher_config(config: TrainConfig, number: int) -> TrainConfig:
    """The settings of one teacher, which is trained on the labels."""
    return dataclasses.replace(
        config,
        hidden=config.teacher_hidden,
        start_channels=(),
        epochs=config.teacher_epochs,
        learning_rate=CONVOLUTIONAL_RATE if config.teacher_kind == "convolutional" else config.learning_rate,
        seed=(config.seed + (number + 1) * TEACHER_SEEDS) % 2**63,
        teachers=0,
        on_interrupt="stop",
    )


def start_config(config: TrainConfig) -> TrainConfig:
    """The settings of the convolutional start, which is distilled from the same teachers."""
    return dataclasses.replace(
        config,
        epochs=config.start_epochs,
        learning_rate=CONVOLUTIONAL_RATE,
        seed=(config.seed + (config.teachers + 1) * TEACHER_SEEDS) % 2**63,
        on_interrupt="stop",
    )


def identify(dataset: Dataset, placement: Placement) -> dict[str, object]:
    """What `--resume` must leave unchanged, besides the settings: images, device, processes."""
    digest = hashlib.sha256(dataset.train.images.numpy().tobytes())
    digest.update(dataset.train.targets.numpy().tobytes())
    return {
        "name": dataset.name,
        "images": len(dataset.train),
        "sha256": digest.hexdigest()[:16],
        "device": placement.device.type,
        "processes": placement.group.size,
    }


def _named(on_epoch: OnEpoch, stage: str) -> Callable[[Epoch, Classifier[Any]], object]:
    return lambda epoch, classifier: on_epoch(stage, epoch, classifier)
