"""Training batches of pixels and targets, prepared a few at a time on the device.

Legend: N images, B images in a batch, D pixels, C classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mlpserve_trainer.data import Split
from mlpserve_trainer.fitting.distributed import Group
from mlpserve_trainer.fitting.warp import Warp
from mlpserve_trainer.networks.mlp import normalise

ASKED = 256  # images per inference of a teacher on a CPU, so that its feature maps stay in the cache
PREPARED = 1024  # images prepared together, at least one batch: few enough to stay in a CPU's cache until the step


@dataclass(frozen=True)
class Batch:
    """One step's images, or this process's share of them.

    Attributes:
        x: normalised pixels float32 [B, D].
        targets: class ids int64 [B], or the teachers' answers float32 [B, C].
        count: images in the batch, over all processes.
    """

    x: Tensor
    targets: Tensor
    count: int


@dataclass(frozen=True)
class Teachers:
    """The teachers of knowledge distillation: their soft targets replace the labels (Hinton, Vinyals and Dean 2015).

    Attributes:
        networks: trained, on the device. They take turns, so that over the epochs the student learns their mean at the
            cost of one teacher. Empty for training on the labels.
        temperature: divides their logits.
        compute: precision of their matrix products; None for float32.
        view: extra warp of the images that the teachers see; None if they see what the student sees.
    """

    networks: tuple[nn.Module, ...] = ()
    temperature: float = 1.0
    compute: torch.dtype | None = None
    view: Warp | None = None


class Feed:
    """Batches of one training split.

    Args:
        train: the images, on the device.
        mean, deviation: of the pixels, scaled to 0..1.
        generator: of the warps, on the device.
        warp: data augmentation; None for none.
        teachers: their predictions are the targets.
        group: the processes that share every batch; this one gets its share.
    """

    def __init__(
        self,
        train: Split,
        mean: float,
        deviation: float,
        generator: torch.Generator,
        *,
        warp: Warp | None = None,
        teachers: Teachers = Teachers(),
        group: Group = Group(),  # noqa: B008 - frozen
    ) -> None:
        self._train = train
        self._mean, self._deviation = mean, deviation
        self._generator = generator
        self._warp = warp
        self._teachers = teachers
        self._group = group

    def batches(self, order: Tensor, batch_size: int) -> Iterator[Batch]:
        """Yield the images with the indices `order`, int64 [N], in batches; the last one may be smaller."""
        together = max(1, PREPARED // batch_size)
        for number, chunk in enumerate(order.split(batch_size * together)):
            whole = chunk.split(batch_size)
            parts = [self._part(batch) for batch in whole]
            # Every process draws the same warps and trains on its own share of each batch.
            warps, view = self._draw(len(chunk))
            x, targets = self._prepare(
                torch.cat(parts),
                None if warps is None else self._mine(warps, batch_size),
                None if view is None else self._mine(view, batch_size),
                number,
            )
            lengths = [len(part) for part in parts]
            yield from map(Batch, x.split(lengths), targets.split(lengths), map(len, whole))

    def _draw(self, count: int) -> tuple[Tensor | None, Tensor | None]:
        """Draw the images' warps, for the student and for the teacher."""
        if self._warp is None:
            return None, None
        warps = self._warp.draw(count, self._generator)
        if self._teachers.view is None or not self._teachers.networks:
            return warps, None
        return warps, warps + self._teachers.view.draw_further(count, self._generator)

    def _part(self, batch: Tensor) -> Tensor:
        return batch if self._group.size == 1 else batch.tensor_split(self._group.size)[self._group.rank]

    def _mine(self, rows: Tensor, batch_size: int) -> Tensor:
        """This process's shares of the batches to which the rows belong."""
        return rows if self._group.size == 1 else torch.cat([self._part(batch) for batch in rows.split(batch_size)])

    def _prepare(self, numbers: Tensor, warps: Tensor | None, view: Tensor | None, turn: int) -> tuple[Tensor, Tensor]:
        pixels = self._train.images[numbers]
        x = self._seen(pixels, self._warp, warps)
        networks = self._teachers.networks
        if not networks:
            return x, self._train.targets[numbers]
        seen = x if view is None else self._seen(pixels, self._teachers.view, view)
        return x, self._ask(networks[turn % len(networks)], seen)

    def _seen(self, pixels: Tensor, warp: Warp | None, warps: Tensor | None) -> Tensor:
        """Pixels as a network gets them: warped and normalised, [N, D]."""
        if warp is not None and warps is not None:
            pixels = warp.apply(pixels, warps)
        return normalise(pixels, self._mean, self._deviation)

    @torch.no_grad()
    def _ask(self, teacher: nn.Module, x: Tensor) -> Tensor:
        """A teacher's soft targets [N, C] for normalised pixels [N, D]."""
        at_once = ASKED if x.device.type == "cpu" else max(1, len(x))
        with torch.autocast(x.device.type, self._teachers.compute, enabled=self._teachers.compute is not None):
            logits = torch.cat([teacher(part) for part in x.split(at_once)])
        return (logits.float() / self._teachers.temperature).softmax(dim=1)
