"""Training on the device: an epoch's time, and the time to an accuracy."""

import statistics

import torch

from bench.gpu.check import Case
from mlpserve_trainer.config import TrainConfig
from mlpserve_trainer.data import Dataset, load
from mlpserve_trainer.fitting.fit import Epoch, Fit, fit, validate
from mlpserve_trainer.fitting.placement import Placement, choose_device
from mlpserve_trainer.networks.build import new_mlp
from mlpserve_trainer.networks.mlp import MLP, Classifier

BATCH_SIZE, TARGET = 256, 0.98
RATE = 2e-3  # four times the batch of the defaults, twice their rate
EPOCHS = 12
EPOCH_SECONDS, TARGET_SECONDS = 0.05, 0.5


def measure(case: Case) -> None:
    device = choose_device(case.kind)
    config = TrainConfig()
    dataset = load("mnist", cache=config.data_cache, validation=config.validation, seed=0, image_size=None)
    rounds, epochs = (1, 2) if case.quick else (3, EPOCHS)
    epoch_seconds: dict[bool, list[float]] = {True: [], False: []}
    to_target: list[float] = []
    _train(dataset, device, seed=0, graph=False, epochs=1)  # the device and its libraries wake up
    for seed in range(rounds):
        for graph in (True, False):
            result, reached = _train(dataset, device, seed=seed, graph=graph, epochs=epochs)
            # Without the first, in which the graph is made.
            epoch_seconds[graph].append(statistics.median(epoch.seconds for epoch in result.epochs[1:]))
            if graph:
                to_target.append(reached)
    graphed, plain = (statistics.median(epoch_seconds[graph]) for graph in (True, False))
    add = case.found.add
    target = f"≤ {EPOCH_SECONDS} s"
    add(f"training: one epoch at batch {BATCH_SIZE}", graphed, f"{graphed:.3f} s", target, graphed <= EPOCH_SECONDS)
    add("… without the CUDA graph", plain, f"{plain:.3f} s ({plain / graphed:.1f}×)")
    seconds = statistics.median(to_target)
    shown = f"{seconds:.2f} s" if seconds < float("inf") else f"not in {epochs} epochs"
    what = f"training: seconds of steps to {TARGET:.1%} on the test set"
    add(what, seconds, shown, f"≤ {TARGET_SECONDS} s", seconds <= TARGET_SECONDS)
    config = TrainConfig(epochs=1 if case.quick else 3)
    result = fit(new_mlp(dataset, config), dataset, config, Placement(device))
    seconds = statistics.median(epoch.seconds for epoch in result.epochs[1:] or result.epochs)
    add(f"training: one epoch at batch {config.batch_size}, the default", seconds, f"{seconds:.3f} s")


def _train(dataset: Dataset, device: torch.device, *, seed: int, graph: bool, epochs: int) -> tuple[Fit[MLP], float]:
    """A fit, and the seconds of its steps until the test accuracy first reached the target; infinite if it did not."""
    test = dataset.test.to(device)
    spent, reached = 0.0, float("inf")

    def look(epoch: Epoch, classifier: Classifier[MLP]) -> None:
        nonlocal spent, reached
        spent += epoch.seconds
        if reached == float("inf") and validate(classifier, test)[1] >= TARGET:
            reached = spent

    config = TrainConfig(seed=seed, epochs=epochs, batch_size=BATCH_SIZE, learning_rate=RATE)
    return fit(new_mlp(dataset, config), dataset, config, Placement(device, graph=graph), look), reached
