"""The training loop.

The images lie as bytes in the device's memory, so a step gathers its batch there: no per-image Python, no copies
between host and device. Adam follows a one-cycle schedule whose mean is the plain loop's constant rate, and a moving
average of the weights is what is evaluated: it passes the plain loop's final accuracy in a third of its epochs.
`bench/training.py` measures both; `steps.py` has the steps themselves.

Legend: N images, D pixels, C classes.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm import tqdm

from mlpserve_trainer.config import TrainConfig
from mlpserve_trainer.data import Dataset, Split
from mlpserve_trainer.distributed import Group
from mlpserve_trainer.errors import ConfigError
from mlpserve_trainer.mlp import MLP, Classifier, normalise
from mlpserve_trainer.schedule import average_shares, one_cycle
from mlpserve_trainer.steps import GraphSteps, ParallelSteps, PlainSteps

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
class Fit:
    """A fitted classifier on the CPU, and how it came about.

    Attributes:
        classifier: averaged weights of the best epoch, on the CPU.
        epochs: every epoch, in order.
        best: the epoch that the weights are from.
        seconds: wall-clock time of the fit.
        device: "cpu" or "cuda".
    """

    classifier: Classifier
    epochs: tuple[Epoch, ...]
    best: Epoch
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
    # Without it cuBLAS may choose another order of summation from one run to the next.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def new_mlp(dataset: Dataset, config: TrainConfig) -> MLP:
    """The untrained network for a data set, initialised from the configured seed."""
    torch.manual_seed(config.seed)
    classes = len(dataset.labels)
    if classes == 2 and not config.hidden and config.activation == "sigmoid":
        classes = 1  # the single neuron
    return MLP(dataset.rows * dataset.cols, config.hidden, classes, config.activation)


def fit(
    mlp: MLP,
    dataset: Dataset,
    config: TrainConfig,
    device: torch.device,
    on_epoch: Callable[[Epoch, Classifier], object] = lambda epoch, classifier: None,
    group: Group | None = None,
    graph: bool | None = None,
) -> Fit:
    """Train `mlp` and return the averaged weights of the epoch that was best on the validation split.

    Args:
        mlp: the network, changed in place.
        dataset: its training split is fitted, its validation split chooses the epoch, its test split is not touched.
        config: epochs, batch size, rate, average, seed.
        device: where the data and the network live during the fit.
        on_epoch: called after each epoch with its figures and the averaged classifier, which it must not keep.
        group: the processes that train together, joined already; every one returns the same fit.
        graph: take the steps of `GraphSteps`; None: on a GPU that is not shared with a group.
    """
    group = group or Group()
    train, validation = dataset.train.to(device), dataset.validation.to(device)
    mlp.to(device)
    averaged = Classifier(
        MLP(mlp.sizes[0], mlp.sizes[1:-1], mlp.sizes[-1], mlp.activation), dataset.mean, dataset.deviation
    )
    averaged.mlp.load_state_dict(mlp.state_dict())
    averaged.requires_grad_(False).to(device)

    count = config.epochs * -(-len(train) // config.batch_size)
    schedule, shares = one_cycle(count, 2 * config.learning_rate), average_shares(count, config.average).tolist()
    steps: PlainSteps | GraphSteps
    if group.size > 1:
        steps = ParallelSteps(mlp, averaged, train, schedule, shares, group.rank, group.size)
    elif device.type == "cuda" if graph is None else graph:
        steps = GraphSteps(mlp, averaged, train, schedule, shares)
    else:
        steps = PlainSteps(mlp, averaged, train, schedule, shares)
    generator = torch.Generator(device=device).manual_seed(config.seed)

    history: list[Epoch] = []
    best_weights: dict[str, Tensor] = {}
    started = time.perf_counter()
    for number in range(1, config.epochs + 1):
        epoch_started = time.perf_counter()
        order = torch.randperm(len(train), generator=generator, device=device)
        progress = _progress(f"Epoch {number}/{config.epochs}", shown=group.rank == 0)
        mean_loss = steps.epoch(order, config.batch_size, progress).item() / len(train)
        seconds = time.perf_counter() - epoch_started
        epoch = Epoch(number, mean_loss, *validate(averaged, validation), seconds)
        history.append(epoch)
        if epoch.validation_accuracy >= max(e.validation_accuracy for e in history):
            best_weights = {name: value.clone() for name, value in averaged.mlp.state_dict().items()}
        on_epoch(epoch, averaged)
    elapsed = time.perf_counter() - started
    averaged.mlp.load_state_dict(best_weights)
    best = max(history, key=lambda e: (e.validation_accuracy, e.number))
    return Fit(averaged.cpu().eval(), tuple(history), best, elapsed, device.type)


def _progress(title: str, *, shown: bool) -> Callable[[Iterable[Tensor | int]], Iterable[Tensor | int]]:
    """A bar on a terminal, nothing elsewhere."""
    disable = None if shown else True
    return lambda steps: tqdm(steps, desc=title, unit="step", leave=False, disable=disable, file=sys.stderr)


@torch.no_grad()
def validate(classifier: Classifier, split: Split) -> tuple[float, float]:
    """Cross-entropy in nats and accuracy 0 to 1 over a split on the classifier's device."""
    loss = correct = 0.0
    for start in range(0, len(split), EVALUATION_BATCH):
        images = split.images[start : start + EVALUATION_BATCH]
        targets = split.targets[start : start + EVALUATION_BATCH]
        logits = classifier.mlp(normalise(images, classifier.mean, classifier.deviation))
        loss += nn.functional.cross_entropy(logits, targets, reduction="sum").item()
        correct += (logits.argmax(dim=1) == targets).sum().item()
    return loss / len(split), correct / len(split)
