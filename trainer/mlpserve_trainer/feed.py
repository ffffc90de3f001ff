"""What a step learns from: batches of pixels and targets, prepared a few at a time on the device.

Legend: N images, B images in a batch, D pixels, C classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mlpserve_trainer.data import Split
from mlpserve_trainer.mlp import Classifier, normalise
from mlpserve_trainer.warp import Warp

PREPARED = 1024  # images prepared together, at least one batch: they still lie in a CPU's cache when they are learnt


@dataclass(frozen=True)
class Batch:
    """One step's images, in the process that is to learn them.

    Attributes:
        x: normalised pixels float32 [B, D].
        targets: class ids int64 [B], or the teachers' answers float32 [B, C].
        count: images of the batch in all processes together.
    """

    x: Tensor
    targets: Tensor
    count: int


class Feed:
    """Batches of one training split.

    Args:
        train: the images, on the device.
        mean, deviation: of the pixels, scaled to 0..1.
        warp: how images are warped; None for not at all.
        further: how each teacher's view of an image is warped beside that; None for the same view.
        teachers: networks whose mean answers are the targets; empty: the labels are.
        temperature: divides the teachers' logits.
        generator: of the warps, on the device.
        compute: precision of the teachers' matrix products; None for float32.
        rank, size: which part of every batch is this process's.
    """

    def __init__(
        self,
        train: Split,
        mean: float,
        deviation: float,
        *,
        generator: torch.Generator,
        warp: Warp | None = None,
        further: Warp | None = None,
        teachers: Sequence[Classifier] = (),
        temperature: float = 1.0,
        compute: torch.dtype | None = None,
        rank: int = 0,
        size: int = 1,
    ) -> None:
        self._train = train
        self._mean, self._deviation = mean, deviation
        self._warp = warp
        self._further = further
        self._teachers = teachers
        self._temperature = temperature
        self._generator = generator
        self._compute = compute
        self._rank, self._size = rank, size

    def batches(self, order: Tensor, batch_size: int) -> Iterator[Batch]:
        """The images with the numbers `order`, int64 [N], in batches; the last one may be smaller."""
        together = max(1, PREPARED // batch_size)
        for chunk in order.split(batch_size * together):
            whole = chunk.split(batch_size)
            parts = [self._part(batch) for batch in whole]
            # Every process draws the same warps and learns its own part of each batch.
            warps, views = self._draw(len(chunk))
            x, targets = self._prepare(
                torch.cat(parts),
                None if warps is None else self._mine(warps, batch_size),
                [self._mine(view, batch_size) for view in views],
            )
            lengths = [len(part) for part in parts]
            yield from map(Batch, x.split(lengths), targets.split(lengths), map(len, whole))

    def _draw(self, count: int) -> tuple[Tensor | None, list[Tensor]]:
        """The images' warps, and how each teacher's view of them differs."""
        warps = self._warp.draw(count, self._generator) if self._warp is not None else None
        if self._further is None:
            return warps, []
        return warps, [self._further.draw_further(count, self._generator) for _ in self._teachers]

    def _part(self, batch: Tensor) -> Tensor:
        return batch if self._size == 1 else batch.tensor_split(self._size)[self._rank]

    def _mine(self, rows: Tensor, batch_size: int) -> Tensor:
        """This process's parts of the batches that rows belong to."""
        return rows if self._size == 1 else torch.cat([self._part(batch) for batch in rows.split(batch_size)])

    def _prepare(self, numbers: Tensor, warps: Tensor | None, views: list[Tensor]) -> tuple[Tensor, Tensor]:
        pixels = self._train.images[numbers]
        x = self._seen(pixels, self._warp, warps)
        if not self._teachers:
            return x, self._train.targets[numbers]
        if not views or warps is None:
            return x, self._ask_teachers([x] * len(self._teachers))
        return x, self._ask_teachers([self._seen(pixels, self._further, warps + view) for view in views])

    def _seen(self, pixels: Tensor, warp: Warp | None, warps: Tensor | None) -> Tensor:
        """Pixels as a network sees them, [N, D]."""
        if warp is not None and warps is not None:
            pixels = warp.apply(pixels, warps)
        return normalise(pixels, self._mean, self._deviation)

    @torch.no_grad()
    def _ask_teachers(self, views: list[Tensor]) -> Tensor:
        """Mean of the teachers' softened answers, each to its own view of the images, [N, C]."""
        device = views[0].device.type
        with torch.autocast(device, self._compute, enabled=self._compute is not None):
            answers = [
                (teacher.mlp(view).float() / self._temperature).softmax(dim=1)
                for teacher, view in zip(self._teachers, views, strict=True)
            ]
        return torch.stack(answers).mean(dim=0)
