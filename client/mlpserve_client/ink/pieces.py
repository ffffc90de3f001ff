"""Pieces of ink, and which of them are no part of the sign: ruled lines, specks, frames and shadows."""

from typing import Any

import numpy as np
import numpy.typing as npt

Amounts = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]

COARSE = 128  # pixels of the picture in which pieces of ink are told apart
LEAST_PIECE = 0.03  # of the largest piece; smaller ones are specks
RULED = 0.6  # of a picture's width that a ruled line covers
NEAR_THE_EDGE = 0.03  # of a picture's width within which a ruled line begins and ends; a stroke does not


def without_rules(amounts: Amounts) -> Amounts:
    """Without the ruled lines of paper, but with the strokes that cross them.

    A stroke may be as long, such as a 1 that fills the picture, but it does not go from one edge to the other.
    """
    for lines in (amounts, amounts.T):
        height, width = lines.shape
        inked = lines > 0.1
        near = max(1, round(NEAR_THE_EDGE * width))
        ruled = (inked.mean(axis=1) > RULED) & inked[:, :near].any(axis=1) & inked[:, -near:].any(axis=1)
        if not ruled.any() or ruled.mean() > 0.4:
            continue
        starts = np.flatnonzero(ruled & ~np.r_[False, ruled[:-1]])
        ends = np.flatnonzero(ruled & ~np.r_[ruled[1:], False]) + 1
        for first, last in zip(starts.tolist(), ends.tolist(), strict=True):
            start, end = max(first - 1, 0), min(last + 1, height)
            above = lines[start - 1] if start else np.zeros(width)
            below = lines[end] if end < height else np.zeros(width)
            lines[start:end] = np.minimum(lines[start:end], np.maximum(above, below))
    return amounts


def of_the_sign(amounts: Amounts) -> Amounts:
    """1 where a piece of ink is that belongs to the sign, 0 elsewhere: without specks, and edges of the paper."""
    height, width = amounts.shape
    step = max(1, -(-max(height, width) // COARSE))
    padded = np.pad(amounts > 0.2, ((0, -height % step), (0, -width % step)))
    coarse: Mask = np.logical_or.reduce(padded.reshape(padded.shape[0] // step, step, -1, step), axis=(1, 3))
    numbers, count = _numbered(coarse)
    if not count:
        return np.ones(amounts.shape, np.float32)
    fine = numbers.repeat(step, 0).repeat(step, 1)[:height, :width]
    areas = np.bincount(fine.ravel(), amounts.ravel(), count + 1)
    areas[0] = 0
    inner = areas.copy()
    for piece in np.flatnonzero(areas >= LEAST_PIECE * areas.max() / 4).tolist():
        if _hugs_the_edge(numbers == piece):
            inner[piece] = 0
    if inner.max() >= 0.02 * areas.max():
        areas = inner
    kept = areas >= LEAST_PIECE * areas.max()
    kept[0] = False
    result: Amounts = kept[fine].astype(np.float32)
    return result


def _hugs_the_edge(piece: Mask) -> bool:
    """Whether a piece lies along an edge of the picture, or around it: a shadow, a desk, a frame."""
    height, width = piece.shape
    for lines in (piece, piece[::-1], piece.T, piece.T[::-1]):
        if lines[0].mean() > 0.4:
            return True
    rows, cols = np.flatnonzero(piece.any(axis=1)), np.flatnonzero(piece.any(axis=0))
    inside = piece[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    if inside.shape[0] < 0.5 * height or inside.shape[1] < 0.5 * width:
        return bool(piece[0].any() or piece[-1].any() or piece[:, 0].any() or piece[:, -1].any()) and (
            min(inside.shape) <= 0.06 * min(height, width)
        )
    band = max(1, round(0.05 * min(inside.shape)))
    sides = (inside[:band], inside[-band:], inside.T[:band], inside.T[-band:])
    return all(side.any(axis=0).mean() > 0.85 for side in sides)


def _numbered(mask: Mask) -> tuple[npt.NDArray[np.intp], int]:
    """The connected pieces of a mask, numbered from 1, and how many there are."""
    parents: list[int] = [0]

    def root(number: int) -> int:
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        return number

    numbers = np.zeros(mask.shape, np.intp)
    before: list[tuple[int, int, int]] = []
    for row, line in enumerate(mask):
        edges = np.flatnonzero(np.diff(np.r_[False, line, False]))
        runs: list[tuple[int, int, int]] = []
        for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            number = 0
            for first, last, other in before:
                if first <= stop and last >= start:  # corners touch
                    if number:
                        parents[root(other)] = root(number)
                    else:
                        number = root(other)
            if not number:
                number = len(parents)
                parents.append(number)
            runs.append((start, stop, number))
            numbers[row, start:stop] = number
        before = runs
    roots = np.array([root(number) for number in range(len(parents))])
    kept, places = np.unique(roots, return_inverse=True)
    return places[numbers], len(kept) - 1
