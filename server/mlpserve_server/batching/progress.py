"""The answer of a call that runs in slices, as far as it has come."""

import threading

import numpy as np

from mlpserve_server.models.runners import Predictions


class Progress:
    """Where the slices of one call meet again. Two threads may run slices of one call at a time.

    Args:
        images: of the call.
        classes: of the model that answers all of them.
        started: time.monotonic() when the first slice began.

    Attributes:
        predictions: of all images; those that have not run yet hold anything.
        done: images that have run.
        slices: that have run.
        run_seconds: that they took.
        over: whether the call has been answered, or will not be.
    """

    __slots__ = ("_turn", "done", "over", "predictions", "run_seconds", "slices", "started")

    def __init__(self, images: int, classes: int, started: float) -> None:
        self.predictions = Predictions(
            np.empty(images, np.int32), np.empty(images, np.float32), np.empty((images, classes), np.float32)
        )
        self.started = started
        self.done = self.slices = 0
        self.run_seconds = 0.0
        self.over = False
        self._turn = threading.Lock()

    def add(self, start: int, rows: Predictions, seconds: float) -> bool:
        """Put the predictions for a slice where they belong.

        Returns:
            Whether they were the last ones and the call is to be answered, by whoever asked.
        """
        count = len(rows.class_ids)
        for whole, part in zip(self.predictions, rows, strict=True):
            whole[start : start + count] = part
        with self._turn:
            self.done += count
            self.slices += 1
            self.run_seconds += seconds
            return self.done == len(self.predictions.class_ids) and self._end()

    def end(self) -> bool:
        """Say that the call ends without an answer; False if it is over already."""
        with self._turn:
            return self._end()

    def _end(self) -> bool:
        first, self.over = not self.over, True
        return first
