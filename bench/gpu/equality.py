"""Training on the device is the same training: as a CUDA graph, step by step, by PyTorch's Adam, on the CPU; twice; and
interrupted.

Weights are compared in float64: where a gradient is almost zero, float32's rounding decides the direction of a whole
step of Adam, and every order of summation rounds differently. In float32 and bfloat16 the losses are compared.
"""

import copy
import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.gpu.check import Case
from mlpserve_trainer.config import TrainConfig, configure
from mlpserve_trainer.data import Dataset, Split, load
from mlpserve_trainer.fitting.feed import Feed, Teachers
from mlpserve_trainer.fitting.fit import Saved, fit
from mlpserve_trainer.fitting.placement import Placement, choose_device, compute_type
from mlpserve_trainer.fitting.schedule import average_shares, one_cycle
from mlpserve_trainer.fitting.stages import CONVOLUTIONAL_RATE, start_config, teacher_config
from mlpserve_trainer.fitting.steps import GraphSteps, Objective, PlainSteps, Progress
from mlpserve_trainer.fitting.warp import Warp
from mlpserve_trainer.networks.build import new_mlp, new_start, new_teacher
from mlpserve_trainer.networks.convolutional import ConvNet

CPU = torch.device("cpu")
EPOCHS, BATCH_SIZE = 2, 256
IMAGES, FEW_IMAGES = 6100, 1500  # the last batch is a partial one
EXACT, RESUMED, BFLOAT16 = 1e-6, 1e-5, 5e-2  # of a weight
LOSS, TAUGHT_LOSS = 2e-3, 5e-2  # nats


class Stepped(GraphSteps):
    """The arithmetic of `GraphSteps`, launched one kernel at a time."""

    def epoch(self, order: Tensor, batch_size: int, progress: Progress) -> Tensor:
        self._loss_sum.zero_()
        for batch in progress(self._feed.batches(order, batch_size)):
            self._step(batch.x, batch.targets)
        return self._loss_sum.clone()


@dataclass(frozen=True)
class Taken:
    """A network after some epochs, the average of its weights, and the loss of each epoch."""

    network: nn.Module
    averaged: nn.Module
    losses: list[float]


@dataclass(frozen=True)
class Task:
    """What is trained: a network on a part of the images, in a fixed order."""

    dataset: Dataset
    network: nn.Module
    learning_rate: float
    compute: torch.dtype | None = None
    warp: float = 0.0
    teachers: Sequence[nn.Module] = ()

    def run(self, way: type[PlainSteps] | type[GraphSteps], device: torch.device) -> Taken:
        """Train it in one of three ways."""
        train, count = self.dataset.train.to(device), len(self.dataset.train)
        network = copy.deepcopy(self.network).to(device).train()
        averaged = copy.deepcopy(network).requires_grad_(False).eval()
        generator = torch.Generator(device=device)
        generator.manual_seed(7)
        warp = Warp(self.dataset.rows, self.dataset.cols, self.warp, "zeros", device) if self.warp else None
        feed = Feed(
            train,
            self.dataset.mean,
            self.dataset.deviation,
            generator,
            warp=warp,
            teachers=Teachers(tuple(self.teachers), 2.0, self.compute),
        )
        steps_in_all = EPOCHS * -(-count // BATCH_SIZE)
        schedule, shares = one_cycle(steps_in_all, 2 * self.learning_rate), average_shares(steps_in_all, 0.9).tolist()
        objective = Objective(2.0 if self.teachers else 1.0, 0.0, self.compute)
        if issubclass(way, GraphSteps):
            steps: PlainSteps | GraphSteps = way(network, averaged, feed, objective, schedule, shares, device)
        else:
            steps = way(network, averaged, feed, objective, schedule, shares)
        losses = []
        for number in range(EPOCHS):
            order = torch.randperm(count, generator=torch.Generator().manual_seed(number)).to(device)
            losses.append(steps.epoch(order, BATCH_SIZE, lambda batches: batches).item() / count)
        return Taken(network, averaged, losses)


def steps(case: Case) -> None:
    """The published network's steps."""
    device, dataset = choose_device(case.kind), _dataset(case)
    exact = Task(dataset, _in_float64(new_mlp(dataset, TrainConfig())), 1e-3)
    graph, stepped, plain = (exact.run(way, device) for way in (GraphSteps, Stepped, PlainSteps))
    cpu = exact.run(PlainSteps, CPU)
    others = {"step by step": stepped, "by PyTorch's Adam here": plain, "by PyTorch's Adam on the CPU": cpu}
    for name, other in others.items():
        _near(case, f"MLP in float64: weights by CUDA graph and {name}", graph.network, other.network, EXACT)
    _near(
        case, "MLP in float64: their averages by CUDA graph and step by step", graph.averaged, stepped.averaged, EXACT
    )
    task = Task(dataset, new_mlp(dataset, TrainConfig()), 1e-3)
    graph = task.run(GraphSteps, device)
    _near_losses(
        case, "MLP: losses by CUDA graph and by PyTorch's Adam on the CPU", graph, task.run(PlainSteps, CPU), LOSS
    )
    _same(case, "MLP: the same bits twice", graph, task.run(GraphSteps, device))


def stages(case: Case) -> None:
    """The teacher and the start of `best`, and the start written out as layers."""
    device, dataset = choose_device(case.kind), _dataset(case)
    best = configure("best", batch_size=BATCH_SIZE)
    compute = compute_type("auto", device)
    teacher = Task(dataset, new_teacher(dataset, teacher_config(best, 0)), CONVOLUTIONAL_RATE, compute, best.warp)
    graph, stepped = (teacher.run(way, device) for way in (GraphSteps, Stepped))
    _near(
        case, f"teacher ({compute}): weights by CUDA graph and step by step", graph.network, stepped.network, BFLOAT16
    )
    _near_losses(case, "teacher: losses by CUDA graph and step by step", graph, stepped, TAUGHT_LOSS)
    _same(case, "teacher: the same bits twice", graph, teacher.run(GraphSteps, device))
    averaged = graph.averaged
    assert isinstance(averaged, ConvNet)
    network = new_start(dataset, start_config(best))
    start = dataclasses.replace(teacher, network=network, teachers=[averaged.folded()])
    graph, stepped = (start.run(way, device) for way in (GraphSteps, Stepped))
    _distance(case, f"start ({compute}): weights by CUDA graph and step by step", graph, stepped)
    _near_losses(case, "start: losses by CUDA graph and step by step", graph, stepped, TAUGHT_LOSS)
    _same(case, "start: the same bits twice", graph, start.run(GraphSteps, device))
    source = copy.deepcopy(graph.averaged).eval()
    mlp = new_mlp(dataset, best).to(device)
    source.write_into(mlp)  # type: ignore[operator]
    x = torch.randn(256, dataset.rows * dataset.cols, device=device, generator=torch.Generator(device).manual_seed(0))
    with torch.no_grad():
        mine, theirs = mlp(x).cpu(), source.cpu()(x.cpu())
    far = float((mine - theirs).abs().max() / theirs.abs().max())
    case.found.require(
        "start written out as layers: farthest logit, relative", far, f"{far:.1e}", "≤ 1e-04", far <= 1e-4
    )


def resume(case: Case) -> None:
    """A run that is interrupted after two of four epochs, by way of a file, against one that is not."""
    device, dataset = choose_device(case.kind), _dataset(case, FEW_IMAGES)
    config = TrainConfig(epochs=4, batch_size=128)
    kept: list[Saved] = []

    def keep(saved: Saved) -> None:
        content = io.BytesIO()
        fields = {f.name: getattr(saved, f.name) for f in dataclasses.fields(saved) if f.name != "history"}
        torch.save(fields, content)
        content.seek(0)
        kept.append(dataclasses.replace(saved, **torch.load(content, map_location="cpu", weights_only=True)))

    whole = fit(new_mlp(dataset, config), dataset, config, Placement(device), keep=keep)
    rest = fit(new_mlp(dataset, config), dataset, config, Placement(device), resume=kept[1])
    _near(case, "weights of a resumed run and of a whole one", whole.classifier, rest.classifier, RESUMED)


def _dataset(case: Case, count: int = IMAGES) -> Dataset:
    config = TrainConfig()
    dataset = load("mnist", cache=config.data_cache, validation=config.validation, seed=0, image_size=None)
    train, count = dataset.train, FEW_IMAGES if case.quick else count
    return dataclasses.replace(dataset, train=Split(train.images[:count], train.targets[:count]))


def _in_float64(network: nn.Module) -> nn.Module:
    network.double().register_forward_pre_hook(lambda module, inputs: (inputs[0].double(),))
    return network


def _far(one: nn.Module, other: nn.Module) -> float:
    """How far the farthest weight is from its like."""
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max(float((a.detach().cpu() - b.detach().cpu()).abs().max()) for a, b in pairs)


def _near(case: Case, what: str, one: nn.Module, other: nn.Module, bound: float) -> None:
    far = _far(one, other)
    case.found.require(f"{what}, farthest apart", far, f"{far:.1e}", f"≤ {bound:.0e}", far <= bound)


def _distance(case: Case, what: str, one: Taken, other: Taken) -> None:
    far = _far(one.network, other.network)
    case.found.add(f"{what}, farthest apart", far, f"{far:.1e}", f"≤ {BFLOAT16:.0e}", far <= BFLOAT16)


def _near_losses(case: Case, what: str, one: Taken, other: Taken, bound: float) -> None:
    far = max(abs(a - b) for a, b in zip(one.losses, other.losses, strict=True))
    case.found.require(what, far, f"{far:.1e} nats apart", f"≤ {bound:.0e}", far <= bound)


def _same(case: Case, what: str, one: Taken, other: Taken) -> None:
    pairs = zip(one.network.parameters(), other.network.parameters(), strict=True)
    same = all(torch.equal(a, b) for a, b in pairs)
    case.found.require(what, float(same), "yes" if same else "no", "yes", same)
