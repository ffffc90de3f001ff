"""Round a layer's weights so that its sums change least on real images: GPTQ.

Weights are rounded one input after another, and the weights that are not yet rounded are adjusted to compensate for
each rounding error (Frantar, Ashkboos, Hoefler and Alistarh 2023). That works because neighbouring pixels are nearly
the same: on MNIST the error of the sums is a quarter of that of rounding each weight to the nearest step.

Legend: N images, D inputs, H units.
"""

import numpy as np
import numpy.typing as npt

BLOCK = 1024  # inputs that compensate for one another: bounds the matrices of large images
DAMPING = 0.01  # share of the mean variance added to each: the paper's

Floats = npt.NDArray[np.float64]


def rounded(weights: Floats, steps: Floats, limit: int, inputs: Floats) -> Floats:
    """Round each weight to a whole number of steps.

    Args:
        weights: [D, H].
        steps: size of a step for each unit, [H].
        limit: the largest number of steps either way.
        inputs: a sample of the layer's inputs, [N, D]; only its covariance matters.
    """
    whole = np.empty_like(weights)
    for start in range(0, len(weights), BLOCK):
        block = slice(start, start + BLOCK)
        whole[block] = _rounded_block(weights[block], steps, limit, inputs[:, block])
    return whole


def _rounded_block(weights: Floats, steps: Floats, limit: int, inputs: Floats) -> Floats:
    spread = inputs - inputs.mean(axis=0)
    covariance = spread.T @ spread / len(inputs)
    variances = np.diag(covariance)
    # The most important inputs first, while most others can still compensate for them.
    order = np.argsort(-variances, kind="stable")
    damped = covariance[np.ix_(order, order)] + np.eye(len(order)) * (DAMPING * variances.mean() or 1.0)
    shares = np.linalg.cholesky(np.linalg.inv(damped)).T
    left = weights[order]
    whole = np.empty_like(weights)
    for number, source in enumerate(order):
        whole[source] = np.clip(np.rint(left[number] / steps), -limit, limit)
        change = (left[number] - whole[source] * steps) / shares[number, number]
        left[number + 1 :] -= np.outer(shares[number, number + 1 :], change)
    return whole
