"""The training loop.

The images are bytes in the device's memory, and a step gathers its batch there: no per-image Python, no copies between
host and device. Adam follows a one-cycle schedule whose mean is the textbook loop's constant rate. Evaluation uses a
moving average of the weights, which exceeds the textbook loop's final accuracy in a third of the epochs.
`bench/trainer/training.py` measures both; `steps.py` has the steps themselves.

Legend: N images, D pixels, C classes.
"""

import copy
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic

import torch
from torch import Tensor, nn

from mlpserve_trainer import progress
from mlpserve_trainer.config import TrainConfig
from mlpserve_trainer.data import Dataset, Split
from mlpserve_trainer.errors import FitError
from mlpserve_trainer.fitting.feed import Batch, Feed, Teachers
from mlpserve_trainer.fitting.interrupts import Interrupts
from mlpserve_trainer.fitting.placement import Placement, compute_type
from mlpserve_trainer.fitting.schedule import average_shares, constant, one_cycle
from mlpserve_trainer.fitting.steps import GraphSteps, Objective, ParallelSteps, PlainSteps
from mlpserve_trainer.fitting.warp import Warp
from mlpserve_trainer.networks.mlp import Classifier, Network, normalise

EVALUATION_BATCH = 4096  # images; bounds the memory of a forward pass over a whole split


@dataclass(frozen=True)
class Epoch:
    """The results of one pass over the training images.

    Attributes:
        number: from 1.
        loss: mean training loss, in nats.
        validation_loss: cross-entropy of the averaged weights on the validation split, in nats.
        validation_accuracy: share classified correctly, 0 to 1.
        seconds: wall-clock time of the steps.
    """

    number: int
    loss: float
    validation_loss: float
    validation_accuracy: float
    seconds: float


@dataclass(frozen=True)
class Saved:
    """The complete training state after an epoch, from which a resumed run is bit-identical.

    Attributes:
        weights, averages, chosen_weights: state dictionaries of the network.
        steps: of the optimiser.
        generators: states of the random generators.
        history: the epochs so far.
        seconds: wall-clock time so far.
    """

    weights: dict[str, Tensor]
    averages: dict[str, Tensor]
    chosen_weights: dict[str, Tensor]
    steps: dict[str, Any]
    generators: dict[str, Tensor]
    history: tuple[Epoch, ...]
    seconds: float


@dataclass(frozen=True)
class Fit(Generic[Network]):
    """A trained classifier on the CPU, and the history of its training.

    Attributes:
        classifier: averaged weights of the chosen epoch, on the CPU.
        epochs: every epoch, in order.
        chosen: the epoch whose weights these are, see `choose`.
        seconds: wall-clock time of the fit.
        device: "cpu" or "cuda".
    """

    classifier: Classifier[Network]
    epochs: tuple[Epoch, ...]
    chosen: Epoch
    seconds: float
    device: str


def fit(
    mlp: Network,
    dataset: Dataset,
    config: TrainConfig,
    placement: Placement,
    on_epoch: Callable[[Epoch, Classifier[Network]], object] = lambda epoch, classifier: None,
    *,
    teachers: Sequence[nn.Module] = (),
    resume: Saved | None = None,
    keep: Callable[[Saved], object] = lambda saved: None,
) -> Fit[Network]:
    """Train a network and return the averaged weights of the epoch that `choose` selects on the validation split.

    A KeyboardInterrupt after the first epoch stops the training early if `config.on_interrupt` is "publish".

    Args:
        mlp: the untrained network from `networks.build`; it is modified.
        dataset: only its training and validation splits are used.
        config: settings of the training.
        placement: where to train; every process of its group returns the same result.
        on_epoch: called after each epoch with its results and the averaged classifier on the device.
        teachers: trained networks on the device, whose predictions replace the labels.
        resume: the last state that an interrupted run with the same arguments passed to `keep`.
        keep: called after each epoch with the state for `resume`.
    """
    device = placement.device
    train, validation = dataset.train.to(device), dataset.validation.to(device)
    mlp.to(device)
    averaged = Classifier(copy.deepcopy(mlp), dataset.mean, dataset.deviation).requires_grad_(False).eval()

    generators = {name: torch.Generator(device=device) for name in ("order", "warp")}
    for offset, generator in enumerate(generators.values()):
        generator.manual_seed(config.seed + offset * 2**32)
    feed = _feed(train, dataset, config, placement, generators["warp"], teachers)
    steps = _steps(mlp, averaged.mlp, feed, config, placement, -(-len(train) // config.batch_size))

    history: list[Epoch] = []
    chosen: tuple[Epoch, dict[str, Tensor]] | None = None
    spent = 0.0
    if resume is not None:
        mlp.load_state_dict(resume.weights)
        averaged.mlp.load_state_dict(resume.averages)
        steps.restore(resume.steps)
        for name, generator in generators.items():
            generator.set_state(resume.generators[name])
        history, spent = list(resume.history), resume.seconds
        chosen = choose(history, len(validation)), resume.chosen_weights

    started = time.perf_counter() - spent

    def run_epoch(number: int) -> tuple[Epoch, dict[str, Tensor]]:
        """Train one epoch; return the best one to publish so far, with its weights."""
        epoch_started = time.perf_counter()
        order = torch.randperm(len(train), generator=generators["order"], device=device)
        batches = -(-len(train) // config.batch_size)
        counted = _counted(f"Epoch {number}/{config.epochs}", batches, shown=placement.leads)
        mean_loss = steps.epoch(order, config.batch_size, counted).item() / len(train)
        seconds = time.perf_counter() - epoch_started
        epoch = Epoch(number, mean_loss, *validate(averaged, validation), seconds)
        if not math.isfinite(epoch.loss + epoch.validation_loss):
            raise FitError(
                f"the loss is {epoch.loss:g} after epoch {number}, {epoch.validation_loss:g} on the validation images: "
                f"the weights are no numbers any more. Lower --learning-rate, which is {config.learning_rate:g}"
            )
        history.append(epoch)
        if chosen is not None and choose(history, len(validation)) is not epoch:
            return chosen
        return epoch, {name: value.clone() for name, value in averaged.mlp.state_dict().items()}

    try:
        with Interrupts() as interrupts:
            for number in range(len(history) + 1, config.epochs + 1):
                chosen = run_epoch(number)
                keep(
                    Saved(
                        weights=mlp.state_dict(),
                        averages=averaged.mlp.state_dict(),
                        chosen_weights=chosen[1],
                        steps=steps.state(),
                        generators={name: generator.get_state() for name, generator in generators.items()},
                        history=tuple(history),
                        seconds=time.perf_counter() - started,
                    )
                )
                on_epoch(history[-1], averaged)
                interrupts.check()
    except KeyboardInterrupt:
        if chosen is None or config.on_interrupt != "publish":
            raise
    elapsed = time.perf_counter() - started
    assert chosen is not None
    averaged.mlp.load_state_dict(chosen[1])
    return Fit(averaged.cpu().eval(), tuple(history), chosen[0], elapsed, device.type)


def choose(history: Sequence[Epoch], images: int) -> Epoch:
    """The epoch to publish: the last one within one standard error of the best (Breiman et al. 1984, "one SE rule").

    Among many epochs of nearly equal accuracy the best one is best by chance, and often precedes convergence.

    Args:
        history: epochs so far, at least one.
        images: in the validation split.
    """
    best = max(epoch.validation_accuracy for epoch in history)
    error = math.sqrt(best * (1 - best) / images)
    return [epoch for epoch in history if epoch.validation_accuracy >= best - error][-1]


def _feed(
    train: Split,
    dataset: Dataset,
    config: TrainConfig,
    placement: Placement,
    generator: torch.Generator,
    teachers: Sequence[nn.Module],
) -> Feed:
    """The training batches for a configuration."""

    def warp(strength: float) -> Warp | None:
        beyond = "zeros" if dataset.centred_ink else "border"
        return Warp(dataset.rows, dataset.cols, strength, beyond, placement.device) if strength else None

    taught = Teachers(
        tuple(teachers),
        config.temperature,
        compute_type(config.compute, placement.device),
        warp(config.teacher_view if config.warp else 0.0),
    )
    return Feed(
        train,
        dataset.mean,
        dataset.deviation,
        generator,
        warp=warp(config.warp),
        teachers=taught,
        group=placement.group,
    )


def _steps(
    mlp: nn.Module, averaged: nn.Module, feed: Feed, config: TrainConfig, placement: Placement, steps_per_epoch: int
) -> PlainSteps | GraphSteps:
    """The optimiser steps for a configuration and a placement."""
    count = config.epochs * steps_per_epoch
    if config.schedule == "constant":
        schedule = constant(count, config.learning_rate)
    else:
        schedule = one_cycle(count, 2 * config.learning_rate)
    shares = average_shares(count, config.average).tolist()
    objective = Objective(config.temperature, config.label_smoothing, compute_type(config.compute, placement.device))
    if placement.group.size > 1:
        return ParallelSteps(mlp, averaged, feed, objective, schedule, shares, placement.group.size)
    if placement.takes_graph:
        return GraphSteps(mlp, averaged, feed, objective, schedule, shares, placement.device)
    return PlainSteps(mlp, averaged, feed, objective, schedule, shares)


def _counted(title: str, count: int, *, shown: bool) -> Callable[[Iterable[Batch]], Iterable[Batch]]:
    """Says how far an epoch is while its batches are gone through."""
    return lambda batches: progress.counted(batches, title, count, "step") if shown else batches


@torch.no_grad()
def validate(classifier: Classifier[Network], split: Split) -> tuple[float, float]:
    """Cross-entropy in nats and accuracy 0 to 1 over a split on the classifier's device."""
    loss = correct = 0.0
    for start in range(0, len(split), EVALUATION_BATCH):
        images = split.images[start : start + EVALUATION_BATCH]
        targets = split.targets[start : start + EVALUATION_BATCH]
        logits = classifier.mlp(normalise(images, classifier.mean, classifier.deviation))
        loss += nn.functional.cross_entropy(logits, targets, reduction="sum").item()
        correct += (logits.argmax(dim=1) == targets).sum().item()
    return loss / len(split), correct / len(split)
