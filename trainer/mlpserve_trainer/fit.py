"""The training loop.

The images lie as bytes in the device's memory, so a step gathers its batch there: no per-image Python, no copies
between host and device. Adam follows a one-cycle schedule whose mean is the plain loop's constant rate, and a moving
average of the weights is what is evaluated: it passes the plain loop's final accuracy in a third of its epochs.
`bench/training.py` measures both; `steps.py` has the steps themselves.

Legend: N images, D pixels, C classes.
"""

import copy
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic

import torch
from torch import Tensor, nn
from tqdm import tqdm

from mlpserve_trainer.config import TrainConfig
from mlpserve_trainer.data import Dataset, Split
from mlpserve_trainer.distributed import Group
from mlpserve_trainer.errors import ConfigError
from mlpserve_trainer.feed import Batch, Feed
from mlpserve_trainer.mlp import MLP, Classifier, Network, normalise
from mlpserve_trainer.schedule import average_shares, constant, one_cycle
from mlpserve_trainer.start import map_sizes
from mlpserve_trainer.steps import GraphSteps, Objective, ParallelSteps, PlainSteps
from mlpserve_trainer.warp import Warp

EVALUATION_BATCH = 4096  # images; bounds the memory of a forward pass over a whole split


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training images came to.

    Attributes:
        number: from 1.
        loss: mean cross-entropy of the steps, in nats.
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
    """Everything that a fit needs to go on after its last epoch as if nothing had happened.

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
    """A fitted classifier on the CPU, and how it came about.

    Attributes:
        classifier: averaged weights of the chosen epoch, on the CPU.
        epochs: every epoch, in order.
        chosen: the epoch that the weights are from, see `choose`.
        seconds: wall-clock time of the fit.
        device: "cpu" or "cuda".
    """

    classifier: Classifier[Network]
    epochs: tuple[Epoch, ...]
    chosen: Epoch
    seconds: float
    device: str


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """The device for "auto", "cpu" or "cuda"; on a GPU, the one that the process is to take.

    Raises:
        ConfigError: "cuda" without a usable GPU, or fewer GPUs than processes.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError("--device cuda: PyTorch finds no usable NVIDIA GPU; use --device cpu or auto")
    if local_rank >= torch.cuda.device_count():
        raise ConfigError(
            f"process {local_rank} of this machine has no GPU of its own (there are {torch.cuda.device_count()}); "
            "start fewer processes (torchrun --nproc-per-node)"
        )
    _repeat_exactly()
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def _repeat_exactly() -> None:
    """Let the same seed give the same model on the same GPU, and float32 be float32."""
    # Without it cuBLAS may choose another order of summation from one run to the next.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # cuDNN's fastest gradients of a convolution add up in any order, and which it takes may be a matter of timing.
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    # TF32 rounds to ten bits; PyTorch's default allows it in convolutions, such as those that an MLP begins as.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


def new_mlp(dataset: Dataset, config: TrainConfig) -> MLP:
    """The untrained network for a data set, initialised from the configured seed."""
    torch.manual_seed(config.seed)
    classes = len(dataset.labels)
    hidden = (*map_sizes(dataset.rows, dataset.cols, config.start_channels), *config.hidden)
    if classes == 2 and not hidden and config.activation == "sigmoid":
        classes = 1  # the single neuron
    return MLP(dataset.rows * dataset.cols, hidden, classes, config.activation)


def compute_type(name: str, device: torch.device) -> torch.dtype | None:
    """The type of the matrix products while training; None for float32."""
    native = device.type == "cuda" or torch.cpu.get_capabilities().get("avx512_bf16", False)
    return torch.bfloat16 if name == "bfloat16" or (name == "auto" and native) else None


def fit(
    mlp: Network,
    dataset: Dataset,
    config: TrainConfig,
    device: torch.device,
    on_epoch: Callable[[Epoch, Classifier[Network]], object] = lambda epoch, classifier: None,
    group: Group | None = None,
    graph: bool | None = None,
    teachers: Sequence[nn.Module] = (),
    resume: Saved | None = None,
    keep: Callable[[Saved], object] = lambda saved: None,
    publish_on_interrupt: bool = False,
) -> Fit[Network]:
    """Train a network and return the averaged weights of the epoch that `choose` takes by the validation split.

    Args:
        mlp: the network, as `new_mlp` makes it, or a teacher; its weights are changed.
        dataset: train and validation splits are used, the test split is not touched.
        config: settings of the run.
        device: where to train.
        on_epoch: called after each epoch with its figures and the averaged classifier on the device.
        group: the processes that train together, joined already; every one returns the same fit.
        graph: take the steps of `GraphSteps`; None: on a GPU that is not shared with a group.
        teachers: fitted networks on the device whose answers are learnt in place of the labels.
        resume: what `keep` was given last by a run with the same arguments that was interrupted.
        keep: called after each epoch with what `resume` takes.
        publish_on_interrupt: a KeyboardInterrupt after the first epoch ends the fit early rather than failing it.
    """
    group = group or Group()
    train, validation = dataset.train.to(device), dataset.validation.to(device)
    mlp.to(device)
    averaged = Classifier(copy.deepcopy(mlp), dataset.mean, dataset.deviation).requires_grad_(False).eval()

    generators = {name: torch.Generator(device=device) for name in ("order", "warp")}
    for offset, generator in enumerate(generators.values()):
        generator.manual_seed(config.seed + offset * 2**32)
    steps = _steps(mlp, averaged, train, dataset, config, group, generators["warp"], teachers, device, graph)

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
        """One epoch; returns the one to publish so far with its weights."""
        epoch_started = time.perf_counter()
        order = torch.randperm(len(train), generator=generators["order"], device=device)
        batches = -(-len(train) // config.batch_size)
        progress = _progress(f"Epoch {number}/{config.epochs}", batches, shown=group.rank == 0)
        mean_loss = steps.epoch(order, config.batch_size, progress).item() / len(train)
        seconds = time.perf_counter() - epoch_started
        epoch = Epoch(number, mean_loss, *validate(averaged, validation), seconds)
        history.append(epoch)
        if chosen is not None and choose(history, len(validation)) is not epoch:
            return chosen
        return epoch, {name: value.clone() for name, value in averaged.mlp.state_dict().items()}

    try:
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
    except KeyboardInterrupt:
        if chosen is None or not publish_on_interrupt:
            raise
    elapsed = time.perf_counter() - started
    assert chosen is not None
    averaged.mlp.load_state_dict(chosen[1])
    return Fit(averaged.cpu().eval(), tuple(history), chosen[0], elapsed, device.type)


def choose(history: Sequence[Epoch], images: int) -> Epoch:
    """The epoch to publish: the last one within a standard error of the best (Breiman et al. 1984, "one SE rule").

    The best itself is the one that chance favoured most among many that are alike, often one from before the weights
    came to rest.

    Args:
        history: epochs so far, at least one.
        images: in the validation split.
    """
    best = max(epoch.validation_accuracy for epoch in history)
    error = math.sqrt(best * (1 - best) / images)
    return [epoch for epoch in history if epoch.validation_accuracy >= best - error][-1]


def _steps(
    mlp: nn.Module,
    averaged: Classifier[Network],
    train: Split,
    dataset: Dataset,
    config: TrainConfig,
    group: Group,
    generator: torch.Generator,
    teachers: Sequence[nn.Module],
    device: torch.device,
    graph: bool | None,
) -> PlainSteps | GraphSteps:
    compute = compute_type(config.compute, device)
    beyond = "zeros" if dataset.centred_ink else "border"
    warp = Warp(dataset.rows, dataset.cols, config.warp, beyond, device) if config.warp else None
    further = None
    if config.warp and config.teacher_view:
        further = Warp(dataset.rows, dataset.cols, config.teacher_view, beyond, device)
    feed = Feed(
        train,
        dataset.mean,
        dataset.deviation,
        generator=generator,
        warp=warp,
        further=further,
        teachers=teachers,
        temperature=config.temperature,
        compute=compute,
        rank=group.rank,
        size=group.size,
    )
    count = config.epochs * -(-len(train) // config.batch_size)
    if config.schedule == "constant":
        schedule = constant(count, config.learning_rate)
    else:
        schedule = one_cycle(count, 2 * config.learning_rate)
    shares = average_shares(count, config.average).tolist()
    objective = Objective(config.temperature, config.label_smoothing, compute)
    if group.size > 1:
        return ParallelSteps(mlp, averaged.mlp, feed, objective, schedule, shares, group.size)
    if device.type == "cuda" if graph is None else graph:
        return GraphSteps(mlp, averaged.mlp, feed, objective, schedule, shares, device)
    return PlainSteps(mlp, averaged.mlp, feed, objective, schedule, shares)


def _progress(title: str, count: int, *, shown: bool) -> Callable[[Iterable[Batch]], Iterable[Batch]]:
    """A bar on a terminal, nothing elsewhere."""
    disable = None if shown else True
    return lambda batches: tqdm(
        batches, desc=title, total=count, unit="step", leave=False, disable=disable, file=sys.stderr
    )


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
