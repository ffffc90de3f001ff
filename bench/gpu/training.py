"""Training on the device: an epoch's time, the time to an accuracy, and whether a seed gives one model."""

import statistics

import torch

from bench.gpu.record import Record
from mlpserve_trainer.config import TrainConfig
from mlpserve_trainer.data import Dataset, load
from mlpserve_trainer.fit import Epoch, Fit, choose_device, fit, new_mlp, validate
from mlpserve_trainer.mlp import Classifier

BATCH_SIZE, TARGET = 256, 0.98
RATE = 2e-3  # four times the batch of the defaults, twice their rate
EPOCHS = 12


def measure(record: Record, name: str, rounds: int) -> None:
    device = choose_device(name)
    config = TrainConfig()
    dataset = load("mnist", cache=config.data_cache, validation=config.validation, seed=0, image_size=None)
    epoch_seconds: dict[bool, list[float]] = {True: [], False: []}
    to_target: list[float] = []
    _train(dataset, device, seed=0, graph=False, epochs=1)  # the device and its libraries wake up
    for seed in range(rounds):
        for graph in (True, False):
            result, reached = _train(dataset, device, seed=seed, graph=graph, epochs=EPOCHS)
            # Without the first, in which the graph is made.
            epoch_seconds[graph].append(statistics.median(epoch.seconds for epoch in result.epochs[1:]))
            if graph:
                to_target.append(reached)
    graphed, plain = (statistics.median(epoch_seconds[graph]) for graph in (True, False))
    seconds = statistics.median(to_target)
    record.add(f"training: one epoch at batch {BATCH_SIZE}", graphed, f"{graphed:.3f} s", "≤ 0.10 s", graphed <= 0.10)
    record.add("… without the CUDA graph", plain, f"{plain:.3f} s ({plain / graphed:.1f}×)")
    record.add(f"training: to {TARGET:.1%} on the test set", seconds, f"{seconds:.2f} s", "≤ 0.5 s", seconds <= 0.5)
    first, second = (_train(dataset, device, seed=7, graph=True, epochs=2)[0] for _ in range(2))
    pairs = zip(first.classifier.parameters(), second.classifier.parameters(), strict=True)
    same = all(torch.equal(ours, theirs) for ours, theirs in pairs)
    record.require("training: the same seed gives the same weights", float(same), "yes" if same else "no", "yes", same)


def _train(dataset: Dataset, device: torch.device, *, seed: int, graph: bool, epochs: int) -> tuple[Fit, float]:
    """A fit, and the seconds of its steps until the test accuracy first reached the target (or all of them)."""
    test = dataset.test.to(device)
    spent, reached = 0.0, float("inf")

    def look(epoch: Epoch, classifier: Classifier) -> None:
        nonlocal spent, reached
        spent += epoch.seconds
        if reached == float("inf") and validate(classifier, test)[1] >= TARGET:
            reached = spent

    config = TrainConfig(seed=seed, epochs=epochs, batch_size=BATCH_SIZE, learning_rate=RATE)
    result = fit(new_mlp(dataset, config), dataset, config, device, look, graph=graph)
    return result, min(reached, spent)
