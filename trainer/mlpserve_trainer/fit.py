"""The training loop.

The images lie as bytes in the device's memory, so a step gathers its batch there: no per-image Python, no copies
between host and device. Adam follows a one-cycle schedule (Smith and Topin 2018) whose mean is the plain loop's
constant rate, and an exponential moving average of the weights (Polyak and Juditsky 1992) is what is evaluated: it
passes the plain loop's final accuracy in a third of its epochs. `bench/training.py` measures both.

Legend: N images, D pixels, C classes.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm import tqdm

from mlpserve_trainer.config import TrainConfig
from mlpserve_trainer.data import Dataset, Split
from mlpserve_trainer.errors import ConfigError
from mlpserve_trainer.mlp import MLP, Classifier, normalise

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


def choose_device(name: str) -> torch.device:
    """The device for "auto", "cpu" or "cuda".

    Raises:
        ConfigError: "cuda" without a usable GPU.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: PyTorch finds no usable NVIDIA GPU; use --device cpu or auto")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


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
) -> Fit:
    """Train `mlp` and return the averaged weights of the epoch that was best on the validation split.

    Args:
        mlp: the network, changed in place.
        dataset: its training split is fitted, its validation split chooses the epoch, its test split is not touched.
        config: epochs, batch size, rate, average, seed.
        device: where the data and the network live during the fit.
        on_epoch: called after each epoch with its figures and the averaged classifier, which it must not keep.
    """
    train, validation = dataset.train.to(device), dataset.validation.to(device)
    mlp.to(device)
    averaged = Classifier(
        MLP(mlp.sizes[0], mlp.sizes[1:-1], mlp.sizes[-1], mlp.activation), dataset.mean, dataset.deviation
    )
    averaged.mlp.load_state_dict(mlp.state_dict())
    averaged.requires_grad_(False).to(device)

    steps = -(-len(train) // config.batch_size)
    peak = 2 * config.learning_rate
    optimiser = torch.optim.Adam(mlp.parameters(), lr=peak, fused=True)
    total = config.epochs * steps + 1
    # The climb takes a tenth of the steps; OneCycleLR divides by zero when that is exactly one step.
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, peak, total, pct_start=max(0.1, 1.5 / total))
    average = WeightAverage(mlp, averaged.mlp, config.average)
    generator = torch.Generator(device=device).manual_seed(config.seed)

    history: list[Epoch] = []
    best_weights: dict[str, Tensor] = {}
    started = time.perf_counter()
    for number in range(1, config.epochs + 1):
        epoch_started = time.perf_counter()
        order = torch.randperm(len(train), generator=generator, device=device)
        loss_sum = torch.zeros((), device=device)
        for batch in tqdm(
            torch.split(order, config.batch_size),
            desc=f"Epoch {number}/{config.epochs}",
            unit="step",
            leave=False,
            disable=None,
            file=sys.stderr,
        ):
            x = normalise(train.images[batch], dataset.mean, dataset.deviation)
            loss = nn.functional.cross_entropy(mlp(x), train.targets[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            average.update()
            loss_sum += loss.detach() * len(batch)  # stays on the device: no synchronisation in the loop
        mean_loss = loss_sum.item() / len(train)
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


class WeightAverage:
    """An exponential moving average of one network's weights, kept in another network.

    The decay starts low, (1 + t) / (10 + t) after t steps, so that the first weights are soon forgotten.

    Args:
        source: the network that the optimiser changes.
        target: a network of the same form that holds the average.
        decay: 0 copies the weights.
    """

    def __init__(self, source: MLP, target: MLP, decay: float) -> None:
        self._source: list[Tensor] = list(source.parameters())
        self._target: list[Tensor] = list(target.parameters())
        self._decay = decay
        self._steps = 0

    @torch.no_grad()
    def update(self) -> None:
        """Take the source's present weights into the average."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        torch._foreach_lerp_(self._target, self._source, 1 - decay)


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
