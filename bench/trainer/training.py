"""The textbook training loop against `mlpserve-train`'s, in one run: `make bench-training`.

The textbook loop is the one that every MNIST tutorial shows: torchvision's `datasets.MNIST` with ToTensor and
Normalize, a shuffling DataLoader, batch 64, Adam at 1e-3, the whole training set. Ours is `mlpserve_trainer` with
its defaults, which keeps a twelfth of the training images for validation and so learns from fewer. Both fit the same
784-256-10 network on the same threads.

Measured are the median time of an epoch, scaled to 60,000 images, and the training time until the test accuracy,
looked at after every epoch, first reaches 97.9 %. Looking at the test set is not counted for either side, nor is our
pass over the validation split. Writes
bench/results/training.json.
"""

import argparse
import gzip
import itertools
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn
from torchvision import datasets, transforms

from mlpserve_trainer.config import TrainConfig
from mlpserve_trainer.data import EMBEDDED_MNIST, Dataset, load
from mlpserve_trainer.fitting.fit import Epoch, fit, validate
from mlpserve_trainer.fitting.placement import Placement
from mlpserve_trainer.networks.build import new_mlp
from mlpserve_trainer.networks.mlp import Classifier, normalise

TARGET = 0.979
CPU = torch.device("cpu")
RESULTS = Path(__file__).parents[1] / "results"


@dataclass(frozen=True)
class Result:
    """One training run: seconds and test accuracy of each epoch."""

    seed: int
    epoch_seconds: list[float]
    test_accuracy: list[float]

    def time_to_target(self) -> float:
        """Seconds until the target; all of them if it was not reached, so that a ratio is a lower bound."""
        below = list(itertools.takewhile(lambda accuracy: accuracy < TARGET, self.test_accuracy))
        return sum(self.epoch_seconds[: len(below) + 1])


def textbook(dataset: Dataset, seed: int, epochs: int, look: Callable[[float, float], bool]) -> None:
    """Train; `look(seconds of the epoch, test accuracy)` ends it by returning True."""
    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory() as root:
        write_raw_files(Path(root))
        transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
        train = datasets.MNIST(root, train=True, transform=transform)
        loader = torch.utils.data.DataLoader(train, batch_size=64, shuffle=True)
        first, second = nn.Linear(784, 256), nn.Linear(256, 10)
        model = nn.Sequential(nn.Flatten(), first, nn.ReLU(), second)
        for layer in (first, second):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
        criterion = nn.CrossEntropyLoss()
        pixels = normalise(dataset.test.images, dataset.mean, dataset.deviation)
        for _ in range(epochs):
            started = time.perf_counter()
            model.train()
            for x, y in loader:
                optimiser.zero_grad()
                loss = criterion(model(x), y)
                loss.backward()
                optimiser.step()
            seconds = time.perf_counter() - started
            with torch.no_grad():
                accuracy = (model(pixels).argmax(dim=1) == dataset.test.targets).float().mean().item()
            if look(seconds, accuracy):
                return


def ours(dataset: Dataset, seed: int, epochs: int, look: Callable[[float, float], bool]) -> None:
    """Train with the defaults, all epochs: the schedule needs them; the test accuracy is of the averaged weights."""
    config = TrainConfig(seed=seed, epochs=epochs)
    model = new_mlp(dataset, config)

    def on_epoch(epoch: Epoch, classifier: Classifier) -> None:
        look(epoch.seconds, validate(classifier, dataset.test)[1])

    fit(model, dataset, config, Placement(CPU), on_epoch)


def write_raw_files(root: Path) -> None:
    """The embedded MNIST files, unpacked where torchvision looks for them."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for packed in EMBEDDED_MNIST.glob("*.gz"):
        (raw / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))


def measure(name: str, train: Callable[..., None], dataset: Dataset, seed: int, epochs: int) -> Result:
    times: list[float] = []
    accuracies: list[float] = []

    def look(seconds: float, accuracy: float) -> bool:
        times.append(seconds)
        accuracies.append(accuracy)
        print(f"{name:<9} seed {seed} epoch {len(times):>2}: {seconds:6.2f} s, test {accuracy:.2%}", flush=True)
        return accuracy >= TARGET

    train(dataset, seed, epochs, look)
    return Result(seed, times, accuracies)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds, each with a seed of its own")
    parser.add_argument("--epochs", type=int, default=20, help="after so many epochs the textbook loop gives up")
    arguments = parser.parse_args()
    dataset = load("mnist", cache=Path(), validation=1 / 12, seed=0, image_size=None)
    results: dict[str, list[Result]] = {"textbook": [], "mlpserve": []}
    for seed in range(arguments.rounds):
        results["mlpserve"].append(measure("mlpserve", ours, dataset, seed, 10))
        results["textbook"].append(measure("textbook", textbook, dataset, seed, arguments.epochs))

    def median(name: str, value: Callable[[Result], float]) -> float:
        return statistics.median(value(result) for result in results[name])

    # Ours fits fewer images in an epoch, so its time is scaled to the textbook's 60,000.
    scale = {"textbook": 1.0, "mlpserve": 60_000 / len(dataset.train)}
    epoch = {name: scale[name] * median(name, lambda r: statistics.median(r.epoch_seconds)) for name in results}
    target = {name: median(name, Result.time_to_target) for name in results}
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, {cpu_name()}"
    print(f"\nMachine: {machine}. Medians of {arguments.rounds} rounds.\n")
    print(f"| loop | seconds for 60,000 images | seconds to {TARGET:.1%} test accuracy |\n|---|---|---|")
    for name in results:
        print(f"| {name} | {epoch[name]:.2f} | {target[name]:.1f} |")
    ratios = (epoch["textbook"] / epoch["mlpserve"], target["textbook"] / target["mlpserve"])
    print(f"| **ratio** | **{ratios[0]:.1f}×** | **{ratios[1]:.1f}×** |")
    RESULTS.mkdir(exist_ok=True)
    record = {"machine": machine, "ratio_epoch": ratios[0], "ratio_to_target": ratios[1]}
    runs = {name: [asdict(result) for result in runs] for name, runs in results.items()}
    (RESULTS / "training.json").write_text(json.dumps(record | runs, indent=1) + "\n")


def cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if "model name" in line), platform.processor())


if __name__ == "__main__":
    main()
