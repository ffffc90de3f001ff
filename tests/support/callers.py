"""Threads that call with the shipped client again and again, and hold every answer against the right one."""

import threading
from collections import Counter
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from support.mnist import mnist_images

from mlpserve_client import Client, ServerError

SIZES = (1, 7, 1, 64)


class Callers:
    """Calls while the `with` block runs.

    Args:
        target: of the client.
        expected: class ids of the first test images.
        threads: callers, each with a connection of its own.
        options: of the client.

    Attributes:
        outcomes: "right", "wrong", or the gRPC code's name → calls.
        messages: of the calls that failed → calls.
    """

    def __init__(self, target: str, expected: npt.NDArray[np.int64], threads: int, **options: Any) -> None:
        self.outcomes: Counter[str] = Counter()
        self.messages: Counter[str] = Counter()
        self._target, self._expected, self._options = target, expected, options
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(index,)) for index in range(threads)]

    def __enter__(self) -> "Callers":
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> None:
        """No more calls; returns when the last one has ended."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _call(self, number: int) -> None:
        images = mnist_images()
        with Client(self._target, **self._options) as client:
            while not self._stop.is_set():
                number += 1
                size, first = SIZES[number % len(SIZES)], number % (len(self._expected) - 64)
                try:
                    answer = client.predict(images[first : first + size])
                except ServerError as error:
                    self.outcomes[error.code.name] += 1
                    self.messages[str(error)] += 1
                    self._stop.wait(0.01)
                    continue
                right = np.array_equal(answer.class_ids, self._expected[first : first + size])
                self.outcomes["right" if right else "wrong"] += 1
