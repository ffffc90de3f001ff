import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.mnist import mnist_images

from mlpserve_trainer.data import Split
from mlpserve_trainer.fitting.distributed import Group
from mlpserve_trainer.fitting.feed import Feed
from mlpserve_trainer.fitting.warp import Warp

CPU = torch.device("cpu")


def _images(count: int, rows: int = 28, cols: int = 28) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, rows * cols), dtype=torch.uint8, generator=generator)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 40), st.integers(2, 40), st.integers(-3, 3), st.integers(-3, 3))
def test_whole_shifts_move_pixels_exactly(rows: int, cols: int, down: int, right: int) -> None:
    images = _images(3, rows, cols)
    warp = Warp(rows, cols, 1.0, "zeros", CPU)
    moved = warp.apply(images, warp.fixed(3, down=down, right=right)).view(3, rows, cols)
    expected = np.zeros((3, rows, cols))
    source = images.view(3, rows, cols).numpy()
    for y in range(rows):
        for x in range(cols):
            if 0 <= y - down < rows and 0 <= x - right < cols:
                expected[:, y, x] = source[:, y - down, x - right]
    assert np.abs(moved.numpy() - expected).max() < 0.05


def test_a_quarter_turn_is_a_quarter_turn() -> None:
    images = _images(2)
    warp = Warp(28, 28, 1.0, "zeros", CPU)
    turned = warp.apply(images, warp.fixed(2, degrees=90)).view(2, 28, 28)
    picture = images.view(2, 28, 28).float()
    assert any((turned - torch.rot90(picture, k, (1, 2))).abs().max() < 0.05 for k in (1, 3))


def test_without_strength_nothing_moves() -> None:
    images = _images(5)
    warp = Warp(28, 28, 0.0, "zeros", CPU)
    drawn = warp.draw(5, torch.Generator().manual_seed(1))
    assert (warp.apply(images, drawn) - images.float()).abs().max() < 0.01


def test_warps_keep_digits_digits() -> None:
    """Warped digits are still close to themselves, and no two warps are the same."""
    images = torch.from_numpy(mnist_images()[:300].reshape(300, -1).copy())
    warp = Warp(28, 28, 1.0, "zeros", CPU)
    generator = torch.Generator().manual_seed(0)
    first, second = (warp.apply(images, warp.draw(300, generator)) for _ in range(2))
    assert not torch.allclose(first, second)
    ink = images.float().sum(dim=1)
    assert ((first.sum(dim=1) - ink).abs() / ink).mean() < 0.15
    assert first.min() >= 0
    assert first.max() <= 255.01


def test_an_image_is_warped_alike_whatever_is_warped_beside_it() -> None:
    images = _images(700)
    warp = Warp(28, 28, 1.0, "border", CPU)
    drawn = warp.draw(700, torch.Generator().manual_seed(2))
    together = warp.apply(images, drawn)
    assert torch.allclose(together[300:310], warp.apply(images[300:310], drawn[300:310]), atol=1e-3)


@pytest.mark.parametrize("size", [2, 3])
def test_processes_learn_the_parts_of_one_batch(size: int) -> None:
    """Data-parallel processes warp as one process does, each its own part."""
    train = Split(_images(50), torch.arange(50))

    def batches(rank: int, size: int) -> list[torch.Tensor]:
        feed = Feed(
            train,
            0.1,
            0.3,
            generator=torch.Generator().manual_seed(5),
            warp=Warp(28, 28, 1.0, "zeros", CPU),
            group=Group(rank, size),
        )
        found = list(feed.batches(torch.arange(50), 16))
        assert [batch.count for batch in found] == [16, 16, 16, 2]
        return [batch.x for batch in found]

    alone = batches(0, 1)
    parts = [batches(rank, size) for rank in range(size)]
    for number, whole in enumerate(alone):
        assert torch.allclose(torch.cat([part[number] for part in parts]), whole, atol=1e-4)


def test_a_process_may_have_no_image_of_a_batch() -> None:
    warp = Warp(28, 28, 1.0, "zeros", CPU)
    none = torch.empty((0, 784), dtype=torch.uint8)
    assert warp.apply(none, warp.draw(0, torch.Generator())).shape == (0, 784)
