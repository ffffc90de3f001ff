"""How far the images of the last minutes are from those that the model was trained on, by what it answers to them.

The population stability index (Siddiqi 2006) of two distributions p and q is the sum of (p - q) ln(p / q): below 0.1
they are taken as the same, above 0.25 as different.
"""

import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mlpserve.v1.artifact_pb2 import Reference
from mlpserve_server.models.runners import Images, Predictions

WINDOW_SECONDS, SLOTS = 600.0, 20
SAMPLE_SECONDS = 0.02  # at most one batch in so long is looked at, so that looking costs a busy server nothing
SAMPLE_IMAGES = 32  # of a batch
SMALLEST_SHARE = 1e-4  # stands for an empty bin


class Slot:
    """Counts of a part of the window."""

    def __init__(self, classes: int, bins: int) -> None:
        self.started = time.monotonic()
        self.classes = np.zeros(classes, np.int64)
        self.confidence = np.zeros(bins, np.int64)
        self.ink = 0.0
        self.images = 0


class DriftWindow:
    """Counts a sample of the answers of the last ten minutes; written by one thread at a time.

    Args:
        reference: of the model that answers.
        pixels: D.
    """

    def __init__(self, reference: Reference, pixels: int) -> None:
        self._reference = reference
        self._pixels = pixels
        self._slots: deque[Slot] = deque()
        self._next = 0.0

    def observe(self, images: Images, predictions: Predictions, now: float) -> None:
        """Count a batch's images [N, D] and answers, or do nothing because another batch was counted just now."""
        if now < self._next:
            return
        self._next = now + SAMPLE_SECONDS
        if not self._slots or now - self._slots[-1].started >= WINDOW_SECONDS / SLOTS:
            self._forget(now)
            self._slots.append(Slot(len(self._reference.class_counts), len(self._reference.confidence_counts)))
        slot = self._slots[-1]
        seen = images[:SAMPLE_IMAGES]
        slot.classes += np.bincount(predictions.class_ids[: len(seen)], minlength=len(slot.classes))
        slot.confidence += _by_confidence(predictions.scores[: len(seen)], len(slot.confidence))
        slot.ink += float(seen.sum(dtype=np.int64)) / (255 * self._pixels)
        slot.images += len(seen)

    def _forget(self, now: float) -> None:
        while self._slots and now - self._slots[0].started > WINDOW_SECONDS:
            self._slots.popleft()

    def snapshot(self) -> dict[str, Any]:
        """The window's counts and the reference, as plain JSON types."""
        slots = [slot for slot in list(self._slots) if time.monotonic() - slot.started <= WINDOW_SECONDS]
        reference = self._reference
        return {
            "images": sum(slot.images for slot in slots),
            "classes": sum((slot.classes for slot in slots), np.zeros(len(reference.class_counts), np.int64)).tolist(),
            "confidence": sum(
                (slot.confidence for slot in slots), np.zeros(len(reference.confidence_counts), np.int64)
            ).tolist(),
            "ink": sum(slot.ink for slot in slots),
            "reference": {
                "classes": list(reference.class_counts),
                "confidence": list(reference.confidence_counts),
                "ink": reference.mean_ink,
            },
        }


def add(left: Mapping[str, Any], right: Mapping[str, Any]) -> Mapping[str, Any]:
    """Two processes' snapshots as one; the right one alone if they are of different models."""
    if not left or not right or left["reference"] != right["reference"]:
        return right or left
    return {
        "images": left["images"] + right["images"],
        "classes": [a + b for a, b in zip(left["classes"], right["classes"], strict=True)],
        "confidence": [a + b for a, b in zip(left["confidence"], right["confidence"], strict=True)],
        "ink": left["ink"] + right["ink"],
        "reference": left["reference"],
    }


def _by_confidence(scores: npt.NDArray[np.float32], bins: int) -> npt.NDArray[np.int64]:
    return np.bincount(np.minimum((scores * bins).astype(np.int64), bins - 1), minlength=bins)


def stability_index(counts: Sequence[float], reference: Sequence[float]) -> float:
    """The population stability index of two histograms with the same bins, neither of them empty."""
    total, expected_total = sum(counts), sum(reference)
    index = 0.0
    for count, expected in zip(counts, reference, strict=True):
        share, wanted = max(count / total, SMALLEST_SHARE), max(expected / expected_total, SMALLEST_SHARE)
        index += (share - wanted) * math.log(share / wanted)
    return index
