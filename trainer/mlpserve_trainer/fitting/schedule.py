"""Learning rates and momenta of all steps, computed before the first one."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

CLIMB = 0.1  # share of the steps; OneCycleLR divides by zero when that is exactly one step
FIRST_RATE, LAST_RATE = 1 / 25, 1 / 25e4  # of the peak
HIGH_MOMENTUM, LOW_MOMENTUM = 0.95, 0.85
SECOND_MOMENT = 0.999  # Adam's beta2
EPSILON = 1e-8  # Adam's


class Schedule(NamedTuple):
    """One value per step.

    Attributes:
        rates: float64 [steps], learning rates.
        momenta: float64 [steps], Adam's beta1.
    """

    rates: npt.NDArray[np.float64]
    momenta: npt.NDArray[np.float64]


def one_cycle(steps: int, peak: float) -> Schedule:
    """The one-cycle policy (Smith and Topin 2018) with cosine annealing, as in `torch.optim.lr_scheduler.OneCycleLR`.

    The learning rate warms up from a 25th of `peak` in a tenth of the steps and decays to almost zero; momentum mirrors
    it. As a table it costs nothing per step, and can be in a GPU's memory.

    Args:
        steps: of the whole run.
        peak: highest learning rate; the mean is about half of it.
    """
    total = steps + 1
    top = max(CLIMB, 1.5 / total) * total - 1
    numbers = np.arange(steps, dtype=np.float64)
    climbing = numbers <= top
    share = np.where(climbing, numbers / max(top, 1e-12), (numbers - top) / max(total - 1 - top, 1e-12))
    return Schedule(
        np.where(climbing, _cosine(FIRST_RATE * peak, peak, share), _cosine(peak, LAST_RATE * peak, share)),
        np.where(
            climbing,
            _cosine(HIGH_MOMENTUM, LOW_MOMENTUM, share),
            _cosine(LOW_MOMENTUM, HIGH_MOMENTUM, share),
        ),
    )


def constant(steps: int, rate: float) -> Schedule:
    """A constant learning rate and Adam's default momentum."""
    return Schedule(np.full(steps, rate), np.full(steps, 0.9))


def _cosine(start: float, end: float, share: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return end + (start - end) / 2 * (1 + np.cos(math.pi * share))


def average_shares(steps: int, decay: float) -> npt.NDArray[np.float64]:
    """The share of the current weights that each step adds to their moving average, float64 [steps].

    The decay after t steps is (1 + t) / (10 + t) until it reaches `decay`, so that the average
    soon forgets the initial weights. With a decay of 0 the average equals the current weights.
    """
    taken = np.arange(1, steps + 1, dtype=np.float64)
    shares: npt.NDArray[np.float64] = 1 - np.minimum(decay, (1 + taken) / (10 + taken))
    return shares
