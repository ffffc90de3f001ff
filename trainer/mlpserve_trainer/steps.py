"""One epoch of optimiser steps, three ways of the same arithmetic: plain, data-parallel, and as a CUDA graph.

All are Adam (Kingma and Ba 2015) on the one-cycle schedule, with an exponential moving average of the weights (Polyak
and Juditsky 1992) beside it. Images, order, schedule and sums lie on the device, so no step waits for the host.

Legend: N images, B images in a batch.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from mlpserve_trainer.data import Split
from mlpserve_trainer.mlp import Classifier, normalise
from mlpserve_trainer.schedule import EPSILON, SECOND_MOMENT, Schedule

Progress = Callable[[Iterable[Tensor | int]], Iterable[Tensor | int]]
WARM_UP_STEPS = 3  # before a capture: libraries choose their kernels and workspaces


class PlainSteps:
    """Steps with PyTorch's fused Adam.

    Args:
        mlp: the network that learns, on the device.
        averaged: holds the moving average; a classifier of the same form on the same device.
        train: the images, on the device.
        schedule: of the whole run.
        shares: of the whole run, see `schedule.average_shares`.
    """

    def __init__(
        self, mlp: nn.Module, averaged: Classifier, train: Split, schedule: Schedule, shares: list[float]
    ) -> None:
        self._mlp = mlp
        self._averaged = averaged
        self._train = train
        self._schedule = schedule
        self._shares = shares
        self._weights: list[Tensor] = list(mlp.parameters())
        self._averages: list[Tensor] = list(averaged.mlp.parameters())
        self._optimiser = torch.optim.Adam(self._weights, lr=schedule.rates[0], eps=EPSILON, fused=True)
        self._taken = 0

    def epoch(self, order: Tensor, batch_size: int, progress: Progress) -> Tensor:
        """Take a step for each batch of `order`, int64 [N]; returns the sum of the images' losses, on the device."""
        loss_sum = torch.zeros((), device=order.device)
        for batch in progress(torch.split(order, batch_size)):
            assert isinstance(batch, Tensor)
            loss_sum += self._step(batch)
        return loss_sum

    def _step(self, batch: Tensor) -> Tensor:
        group, number = self._optimiser.param_groups[0], self._taken
        group["lr"], group["betas"] = self._schedule.rates[number], (self._schedule.momenta[number], SECOND_MOMENT)
        loss, shown = self._loss(batch)
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        with torch.no_grad():
            torch._foreach_lerp_(self._averages, self._weights, self._shares[number])
        self._taken += 1
        return shown

    def _loss(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """The loss to descend, and the sum over the images to report."""
        x = normalise(self._train.images[batch], self._averaged.mean, self._averaged.deviation)
        loss = nn.functional.cross_entropy(self._mlp(x), self._train.targets[batch])
        return loss, loss.detach() * len(batch)


class ParallelSteps(PlainSteps):
    """The same steps with each batch spread over the processes of a torch.distributed group.

    Args:
        mlp, averaged, train, schedule, shares: as for `PlainSteps`; every process has all images.
        rank: of this process.
        size: processes in the group.
    """

    def __init__(
        self,
        mlp: nn.Module,
        averaged: Classifier,
        train: Split,
        schedule: Schedule,
        shares: list[float],
        rank: int,
        size: int,
    ) -> None:
        super().__init__(mlp, averaged, train, schedule, shares)
        self._mlp = nn.parallel.DistributedDataParallel(mlp)
        self._rank, self._size = rank, size

    def epoch(self, order: Tensor, batch_size: int, progress: Progress) -> Tensor:  # noqa: D102
        loss_sum = super().epoch(order, batch_size, progress)
        torch.distributed.all_reduce(loss_sum)
        return loss_sum

    def _loss(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        part = torch.tensor_split(batch, self._size)[self._rank]
        x = normalise(self._train.images[part], self._averaged.mean, self._averaged.deviation)
        loss_sum = nn.functional.cross_entropy(self._mlp(x), self._train.targets[part], reduction="sum")
        # The gradients are averaged over the processes; parts may differ by one image, so each is weighted by its own.
        return loss_sum * (self._size / len(batch)), loss_sum.detach()


class GraphSteps:
    """The same steps with every number on the device, so that a step is one launch of a CUDA graph.

    A step of a network of this size is forty kernels of a few microseconds; launched one by one they would wait for the
    host. On a CPU it takes the same steps without a graph.

    Args:
        mlp, averaged, train, schedule, shares: as for `PlainSteps`.
    """

    def __init__(
        self, mlp: nn.Module, averaged: Classifier, train: Split, schedule: Schedule, shares: list[float]
    ) -> None:
        device = train.images.device
        self._mlp = mlp
        self._train = train
        self._mean, self._deviation = averaged.mean, averaged.deviation
        self._weights = list(mlp.parameters())
        self._averages = list(averaged.mlp.parameters())
        self._first = [torch.zeros_like(weight) for weight in self._weights]
        self._second = [torch.zeros_like(weight) for weight in self._weights]
        rates, momenta = (torch.from_numpy(column) for column in schedule)
        numbers = torch.arange(1, len(rates) + 1, dtype=torch.float64)
        # [steps, 4]: share of the gradient in the first moment, step size and root of the second moment corrected for
        # their start from zero, share of the weights in their average.
        table = [
            1 - momenta,
            rates / (1 - momenta**numbers),
            (1 - SECOND_MOMENT**numbers).rsqrt(),
            torch.tensor(shares),
        ]
        self._table = torch.stack(table, dim=1).float().to(device)
        self._taken = torch.zeros(1, dtype=torch.int64, device=device)
        self._position = torch.zeros(1, dtype=torch.int64, device=device)
        self._loss_sum = torch.zeros((), device=device)
        self._batches = torch.empty(0)
        self._graph: torch.cuda.CUDAGraph | None = None

    def epoch(self, order: Tensor, batch_size: int, progress: Progress) -> Tensor:
        """Take a step for each batch of `order`, int64 [N]; returns the sum of the images' losses, on the device."""
        full = len(order) // batch_size
        if full and self._graph is None:
            self._batches = torch.empty((full, batch_size), dtype=torch.int64, device=order.device)
            if order.is_cuda:
                self._batches.copy_(order[: full * batch_size].view(full, batch_size))
                self._graph = self._capture()
        self._position.zero_()
        self._loss_sum.zero_()
        if full:
            self._batches.copy_(order[: full * batch_size].view(full, batch_size))
        for _ in progress(range(full)):
            if self._graph is not None:
                self._graph.replay()
            else:
                self._step_at_position()
        if full * batch_size < len(order):
            self._step(order[full * batch_size :])
        return self._loss_sum.clone()

    def _capture(self) -> torch.cuda.CUDAGraph:
        """Record a step; the steps that warm it up are undone."""
        changed = [*self._weights, *self._averages, *self._first, *self._second]
        changed += [self._taken, self._position, self._loss_sum]
        saved = [tensor.detach().clone() for tensor in changed]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_STEPS):
                self._position.zero_()
                self._taken.zero_()
                self._step_at_position()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        self._position.zero_()
        self._taken.zero_()
        with torch.cuda.graph(graph):
            self._step_at_position()
        with torch.no_grad():
            for tensor, value in zip(changed, saved, strict=True):
                tensor.copy_(value)
        return graph

    def _step_at_position(self) -> None:
        self._step(self._batches.index_select(0, self._position)[0])
        self._position += 1

    def _step(self, batch: Tensor) -> None:
        x = normalise(self._train.images[batch], self._mean, self._deviation)
        loss = nn.functional.cross_entropy(self._mlp(x), self._train.targets[batch])
        gradients = torch.autograd.grad(loss, self._weights)
        with torch.no_grad():
            new, rate, correction, share = self._table.index_select(0, self._taken)[0].unbind()
            for weight, gradient, first, second, average in zip(
                self._weights, gradients, self._first, self._second, self._averages, strict=True
            ):
                first.lerp_(gradient, new)
                second.mul_(SECOND_MOMENT).addcmul_(gradient, gradient, value=1 - SECOND_MOMENT)
                weight.sub_(first * rate / (second.sqrt() * correction + EPSILON))
                average.lerp_(weight, share)
            self._loss_sum += loss.detach() * len(batch)
            self._taken += 1
