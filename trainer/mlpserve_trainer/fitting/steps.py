"""One epoch of optimiser steps. Three implementations of the same arithmetic: plain, data-parallel, as a CUDA graph.

All use Adam (Kingma and Ba 2015) with a precomputed schedule, and keep an exponential moving average of the weights
(Polyak and Juditsky 1992). Images, order, schedule and sums are in the device's memory, so no step waits for the host.

Legend: B images in a batch, D pixels, C classes.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mlpserve_trainer.fitting.feed import Batch, Feed
from mlpserve_trainer.fitting.schedule import EPSILON, SECOND_MOMENT, Schedule

Progress = Callable[[Iterable[Batch]], Iterable[Batch]]
WARM_UP_STEPS = 3  # before a capture, so that libraries choose their kernels and workspaces


@dataclass(frozen=True)
class Objective:
    """The loss: cross-entropy with the labels, or with the teachers' predictions.

    Attributes:
        temperature: divides the logits if the targets are the teachers'; its square preserves the scale of the
            gradients
            (Hinton, Vinyals and Dean 2015).
        smoothing: label smoothing, the share of each label that is spread over all classes.
        compute: precision of the matrix products; None for float32.
    """

    temperature: float = 1.0
    smoothing: float = 0.0
    compute: torch.dtype | None = None

    def __call__(self, mlp: nn.Module, x: Tensor, targets: Tensor) -> Tensor:
        """Mean loss over a batch in nats, x [B, D], targets int64 [B] or float32 [B, C]."""
        # Autocast must not cache casts: a CUDA graph has to repeat them.
        with torch.autocast(x.device.type, self.compute, enabled=self.compute is not None, cache_enabled=False):
            logits = mlp(x)
        if self.compute is not None:
            logits = logits.float()
        if targets.is_floating_point():
            return nn.functional.cross_entropy(logits / self.temperature, targets) * self.temperature**2
        return nn.functional.cross_entropy(logits, targets, label_smoothing=self.smoothing)


class PlainSteps:
    """Steps with PyTorch's fused Adam.

    Args:
        mlp: the network in training, on the device.
        averaged: holds the moving average; a network of the same shape on the same device.
        feed: the batches.
        objective: the loss.
        schedule: of the whole run.
        shares: of the whole run, see `schedule.average_shares`.
    """

    def __init__(
        self,
        mlp: nn.Module,
        averaged: nn.Module,
        feed: Feed,
        objective: Objective,
        schedule: Schedule,
        shares: list[float],
    ) -> None:
        self._mlp: nn.Module = mlp
        self._feed = feed
        self._objective = objective
        self._rates, self._momenta = schedule.rates.tolist(), schedule.momenta.tolist()
        self._shares = shares
        self._weights: list[Tensor] = list(mlp.parameters())
        self._followed, self._averages = _floating(mlp), _floating(averaged)
        self._optimiser = torch.optim.Adam(self._weights, lr=float(schedule.rates[0]), eps=EPSILON, fused=True)
        self._taken = 0

    def epoch(self, order: Tensor, batch_size: int, progress: Progress) -> Tensor:
        """Take a step for each batch of `order`, int64 [N]; returns the sum of the images' losses, on the device."""
        loss_sum = torch.zeros((), device=order.device)
        for batch in progress(self._feed.batches(order, batch_size)):
            loss_sum += self._step(batch)
        return loss_sum

    def state(self) -> dict[str, Any]:
        """The state from which a resumed run is bit-identical."""
        return {"optimiser": self._optimiser.state_dict(), "taken": self._taken}

    def restore(self, state: dict[str, Any]) -> None:
        """Load a `state`."""
        self._optimiser.load_state_dict(state["optimiser"])
        self._taken = state["taken"]

    def _step(self, batch: Batch) -> Tensor:
        group, number = self._optimiser.param_groups[0], self._taken
        group["lr"], group["betas"] = self._rates[number], (self._momenta[number], SECOND_MOMENT)
        loss, shown = self._loss(batch)
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        with torch.no_grad():
            torch._foreach_lerp_(self._averages, self._followed, self._shares[number])
        self._taken += 1
        return shown

    def _loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss for back-propagation, and its sum over the images for the report."""
        loss = self._objective(self._mlp, batch.x, batch.targets)
        return loss, loss.detach() * batch.count


class ParallelSteps(PlainSteps):
    """The same steps, with each batch divided among the processes of a torch.distributed group.

    Args:
        mlp, averaged, objective, schedule, shares: as for `PlainSteps`.
        feed: yields this process's share of every batch.
        size: processes in the group.
    """

    def __init__(
        self,
        mlp: nn.Module,
        averaged: nn.Module,
        feed: Feed,
        objective: Objective,
        schedule: Schedule,
        shares: list[float],
        size: int,
    ) -> None:
        super().__init__(mlp, averaged, feed, objective, schedule, shares)
        self._mlp = nn.parallel.DistributedDataParallel(mlp)
        self._size = size

    def epoch(self, order: Tensor, batch_size: int, progress: Progress) -> Tensor:  # noqa: D102
        loss_sum = super().epoch(order, batch_size, progress)
        torch.distributed.all_reduce(loss_sum)
        return loss_sum

    def _loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        # The mean loss of an empty share is undefined, but the process still has to take part in the gradient
        # all-reduce.
        mean = self._objective(self._mlp, batch.x, batch.targets) if len(batch.x) else self._mlp(batch.x).sum()
        loss_sum = mean * len(batch.x)
        # Gradients are averaged over the processes; shares may differ by one image, so each is weighted by its size.
        return loss_sum * (self._size / batch.count), loss_sum.detach()


class GraphSteps:
    """The same steps with all state on the device, so that a step is one launch of a CUDA graph.

    A step of a network of this size is forty kernels of a few microseconds each; launched one by one, they would wait
    for the host. On a CPU it takes the same steps without a graph. Adam is written out because PyTorch's cannot be
    captured with a changing momentum and run on a CPU too: docs/decisions/012-hand-written-adam.md.

    Args:
        mlp, averaged, feed, objective, schedule, shares: as for `PlainSteps`.
        device: of the images.
    """

    def __init__(
        self,
        mlp: nn.Module,
        averaged: nn.Module,
        feed: Feed,
        objective: Objective,
        schedule: Schedule,
        shares: list[float],
        device: torch.device,
    ) -> None:
        self._mlp = mlp
        self._feed = feed
        self._objective = objective
        self._weights = list(mlp.parameters())
        self._followed, self._averages = _floating(mlp), _floating(averaged)
        self._first = [torch.zeros_like(weight) for weight in self._weights]
        self._second = [torch.zeros_like(weight) for weight in self._weights]
        rates, momenta = (torch.from_numpy(column) for column in schedule)
        numbers = torch.arange(1, len(rates) + 1, dtype=torch.float64)
        # [steps, 4]: share of the gradient in the first moment; learning rate and scale of the second moment with
        # Adam's bias correction; share of the weights in their average.
        table = [
            1 - momenta,
            rates / (1 - momenta**numbers),
            (1 - SECOND_MOMENT**numbers).rsqrt(),
            torch.tensor(shares, dtype=torch.float64),
        ]
        self._table = torch.stack(table, dim=1).to(self._weights[0])
        self._taken = torch.zeros(1, dtype=torch.int64, device=device)
        self._loss_sum = torch.zeros((), device=device)
        self._x, self._targets = torch.empty(0), torch.empty(0)
        self._graph: torch.cuda.CUDAGraph | None = None

    def epoch(self, order: Tensor, batch_size: int, progress: Progress) -> Tensor:
        """Take a step for each batch of `order`, int64 [N]; returns the sum of the images' losses, on the device."""
        self._loss_sum.zero_()
        for batch in progress(self._feed.batches(order, batch_size)):
            if not order.is_cuda or len(batch.x) < batch_size:
                self._step(batch.x, batch.targets)
                continue
            if self._graph is None:
                self._x, self._targets = batch.x.clone(), batch.targets.clone()
                self._graph = self._capture()
            self._x.copy_(batch.x)
            self._targets.copy_(batch.targets)
            self._graph.replay()
        return self._loss_sum.clone()

    def state(self) -> dict[str, Any]:
        """The state from which a resumed run is bit-identical."""
        return {"first": self._first, "second": self._second, "taken": self._taken}

    def restore(self, state: dict[str, Any]) -> None:
        """Load a `state`."""
        for name in ("first", "second"):
            for tensor, value in zip(getattr(self, f"_{name}"), state[name], strict=True):
                tensor.copy_(value)
        self._taken.copy_(state["taken"])

    def _capture(self) -> torch.cuda.CUDAGraph:
        """Capture a step; the effects of the warm-up steps are undone."""
        changed = [*self._followed, *self._averages, *self._first, *self._second, self._taken, self._loss_sum]
        saved = [tensor.detach().clone() for tensor in changed]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_STEPS):
                self._taken.zero_()
                self._step(self._x, self._targets)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        self._taken.zero_()
        with torch.cuda.graph(graph):
            self._step(self._x, self._targets)
        with torch.no_grad():
            for tensor, value in zip(changed, saved, strict=True):
                tensor.copy_(value)
        return graph

    def _step(self, x: Tensor, targets: Tensor) -> None:
        loss = self._objective(self._mlp, x, targets)
        gradients = torch.autograd.grad(loss, self._weights)
        with torch.no_grad():
            new, rate, correction, share = self._table.index_select(0, self._taken)[0].unbind()
            for weight, gradient, first, second in zip(
                self._weights, gradients, self._first, self._second, strict=True
            ):
                first.lerp_(gradient, new)
                second.mul_(SECOND_MOMENT).addcmul_(gradient, gradient, value=1 - SECOND_MOMENT)
                weight.sub_(first * rate / (second.sqrt() * correction + EPSILON))
            for value, average in zip(self._followed, self._averages, strict=True):
                average.lerp_(value, share)
            self._loss_sum += loss.detach() * len(x)
            self._taken += 1


def _floating(network: nn.Module) -> list[Tensor]:
    """The tensors to average: the weights, and the running statistics of batch normalisation."""
    return [*network.parameters(), *(buffer for buffer in network.buffers() if buffer.is_floating_point())]
