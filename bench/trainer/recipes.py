"""An epoch of each recipe against the DataLoader way of doing the same: `make bench-recipes`.

The DataLoader way is what a tutorial does: a Dataset of pictures, torchvision's transforms one image at a time
(RandomAffine and ElasticTransform where the recipe warps), a shuffling DataLoader, and the same network, batch size,
optimiser and teachers. Both are timed on a part of the images and scaled to 60,000; rounds are interleaved, and medians
are shown. The last columns split our own epoch: the share of it that warping takes, and that the teachers take.
"""

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision import datasets, transforms

from bench.trainer.training import CPU, RESULTS, cpu_name, write_raw_files
from mlpserve_trainer.config import TrainConfig, configure
from mlpserve_trainer.data import Dataset, Split, load
from mlpserve_trainer.fitting.feed import Feed, Teachers
from mlpserve_trainer.fitting.fit import fit
from mlpserve_trainer.fitting.placement import Placement, compute_type
from mlpserve_trainer.fitting.stages import start_config, teacher_config
from mlpserve_trainer.fitting.steps import Objective
from mlpserve_trainer.fitting.warp import Warp
from mlpserve_trainer.networks.build import new_mlp, new_start, new_teacher
from mlpserve_trainer.networks.convolutional import ConvNet

OURS, THEIRS = 12_288, 3_072  # images timed


def part(dataset: Dataset, count: int) -> Dataset:
    train = Split(dataset.train.images[:count], dataset.train.targets[:count])
    few = Split(dataset.validation.images[:64], dataset.validation.targets[:64])
    return dataclasses.replace(dataset, train=train, validation=few)


@dataclasses.dataclass(frozen=True)
class Stage:
    """One fit of a recipe: its settings, who teaches it, and how its network is made."""

    config: TrainConfig
    teachers: list[nn.Module]
    new: Callable[[Dataset, TrainConfig], nn.Module]


def stages(dataset: Dataset, recipe: str) -> dict[str, Stage]:
    """A recipe's fits by name, with untrained teachers: they take as long to ask."""
    config = configure(recipe)
    found = {}
    teachers: list[nn.Module] = []
    for number in range(config.teachers):
        own = teacher_config(config, number)
        found[f"{recipe}: a teacher"] = Stage(own, [], new_teacher)
        teacher = new_teacher(dataset, own).requires_grad_(False).eval()
        teachers.append(teacher.folded() if isinstance(teacher, ConvNet) else teacher)
    if config.start_channels:
        found[f"{recipe}: the start"] = Stage(start_config(config), teachers, new_start)
    found[recipe] = Stage(config, teachers, new_mlp)
    return found


def our_epoch(dataset: Dataset, stage: Stage) -> float:
    """Seconds for 60,000 images."""
    small = part(dataset, OURS)
    once = dataclasses.replace(stage.config, epochs=1)
    result = fit(stage.new(small, once), small, once, Placement(CPU), teachers=stage.teachers)
    return result.epochs[0].seconds * 60_000 / OURS


def preparing(dataset: Dataset, config: TrainConfig, teachers: list[nn.Module], *, warped: bool) -> float:
    """Seconds to prepare 60,000 images without learning them."""
    small = part(dataset, OURS)
    warp = Warp(28, 28, config.warp, "zeros", CPU) if warped and config.warp else None
    feed = Feed(
        small.train,
        0.1307,
        0.3081,
        generator=torch.Generator().manual_seed(0),
        warp=warp,
        teachers=Teachers(tuple(teachers), config.temperature, compute_type(config.compute, CPU)),
    )
    started = time.perf_counter()
    for _ in feed.batches(torch.arange(OURS), config.batch_size):
        pass
    return (time.perf_counter() - started) * 60_000 / OURS


def data_loader_epoch(root: Path, stage: Stage, dataset: Dataset) -> float:
    config, teachers = stage.config, stage.teachers
    steps: list[Callable[[Any], Any]] = []
    if config.warp:
        steps += [
            transforms.RandomAffine(12, (0.05, 0.05), (0.88, 1.12), (-7, 7)),
            transforms.ElasticTransform(34.0, 4.0),  # the values of Simard 2003
        ]
    steps += [transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))]
    train = datasets.MNIST(str(root), train=True, transform=transforms.Compose(steps))
    few = torch.utils.data.Subset(train, range(THEIRS))
    loader: Iterable[Any] = torch.utils.data.DataLoader(few, batch_size=config.batch_size, shuffle=True)
    network = stage.new(dataset, config)
    optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    objective = Objective(config.temperature, config.label_smoothing, compute_type(config.compute, CPU))
    started = time.perf_counter()
    for number, (pictures, labels) in enumerate(loader):
        x, targets = pictures.flatten(1), labels
        if teachers:
            with torch.no_grad(), torch.autocast("cpu", objective.compute, enabled=objective.compute is not None):
                logits = teachers[number % len(teachers)](x).float()
            targets = (logits / config.temperature).softmax(dim=1)
        optimiser.zero_grad()
        objective(network, x, targets).backward()
        optimiser.step()
    return (time.perf_counter() - started) * 60_000 / THEIRS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds")
    arguments = parser.parse_args()
    dataset = load("mnist", cache=Path(), validation=1 / 12, seed=0, image_size=None)
    cases: dict[str, Stage] = {}
    for recipe in ("textbook", "fast", "accurate", "best"):
        cases |= stages(dataset, recipe)
    lines = [
        "| recipe | parameters | batch | ours, s | DataLoader, s | ratio | augmentation | teachers |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    record: dict[str, Any] = {"machine": f"{cpu_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}"}
    with tempfile.TemporaryDirectory() as root:
        write_raw_files(Path(root))
        for name, stage in cases.items():
            config, teachers = stage.config, stage.teachers
            our_epoch(dataset, stage)  # libraries wake up
            ours, theirs, warping, asking = [], [], [], []
            for _ in range(arguments.rounds):
                ours.append(our_epoch(dataset, stage))
                theirs.append(data_loader_epoch(Path(root), stage, dataset))
                plain = preparing(dataset, config, [], warped=False)
                warping.append((preparing(dataset, config, [], warped=True) - plain) / ours[-1])
                asking.append((preparing(dataset, config, teachers, warped=False) - plain) / ours[-1])
            medians = [statistics.median(values) for values in (ours, theirs, warping, asking)]
            parameters = sum(weights.numel() for weights in stage.new(dataset, config).parameters())
            shares = " | ".join(f"{share:.0%}" if share > 0.005 else "–" for share in medians[2:])
            lines.append(
                f"| {name} | {parameters:,} | {config.batch_size} | {medians[0]:.2f} | {medians[1]:.1f} "
                f"| {medians[1] / medians[0]:.1f}× | {shares} |"
            )
            print(lines[-1], flush=True)
            record[name] = dict(zip(("ours", "data_loader", "warping", "teachers"), medians, strict=True))
    print("\n" + "\n".join(lines) + f"\n\n{record['machine']}, {arguments.rounds} rounds, medians")
    (RESULTS / "recipes.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
