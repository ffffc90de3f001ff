"""Every number that the server exports, in one place.

The batching thread adds plain integers once a batch; Prometheus' format is made when somebody scrapes
(`prometheus.families`). So a request costs no lock and no label look-up.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from grpc import StatusCode

from mlpserve_server.calls import METHODS, TRAFFIC
from mlpserve_server.host import streams, unread_files
from mlpserve_server.observe import drift
from mlpserve_server.observe.histogram import Histogram

# The preferred numbers of the series E24, each at most 1.16 times the one before, so that a quantile computed from the
# buckets is close to the true one.
STEPS = (10, 11, 12, 13, 15, 16, 18, 20, 22, 24, 27, 30, 33, 36, 39, 43, 47, 51, 56, 62, 68, 75, 82, 91)
FINE = [float(f"{step}e{power}") for power in (-5, -4, -3, -2, -1) for step in STEPS]
SECONDS = (*FINE[FINE.index(2.4e-4) :], 1.0, 1.1, 1.2, 1.3, 1.5, 1.6, 1.8, 2.0, 5.0, 10.0, 30.0)
FEW = 16  # answers that are counted one by one, which is faster then
IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
NOTHING: Mapping[str, Any] = MappingProxyType({})


class Description(NamedTuple):
    """What is exported about the model that answers; empty while none does.

    Attributes:
        labels: of `mlpserve_model_info`.
        drift: see `drift.DriftWindow.snapshot`.
        gpu: see `gpu.GpuWatch.sample`.
    """

    labels: Mapping[str, str] = NOTHING
    drift: Mapping[str, Any] = NOTHING
    gpu: Mapping[str, str | int | float] = NOTHING


class Metrics:
    """The server's counters.

    Args:
        describe: gives what is exported about the model that answers.

    Attributes:
        handled: for each of METHODS: ended calls by gRPC code name.
        denied: the same of calls that ended before their method was known.
        started: for each of METHODS, calls that have arrived.
        images: images answered.
        dropped: calls that never reached a Run, or not with all of their slices, by reason and traffic (empty where
            that was not known yet). Reasons: "overload", "hopeless" (the deadline would have passed in
            the queue), "expired", "cancelled", "invalid", "draining", "not_ready", "unauthenticated"; by the transport
            "slow" (the message did not arrive), "unread" (there was no room for it), "streams" (too many are open).
        reloads: versions that were tried while another one served, by result: "served" or "refused".
        queued_images: images waiting now; this and the ones with "by traffic" have a place for each of TRAFFIC.
        run_images: images that have run, by traffic.
        batch_images: images in a batch.
        run_seconds: from a batch's assembly to its replies.
        queue_seconds: from being received to the start of the batch, for each request, by traffic; of one in slices all
            the time in which none of them ran.
        request_seconds: for each of METHODS, by traffic, from being received until the reply was sent, for each request
            that was answered.
        ready: whether the model has proven itself lately and the server is not draining.
        log_lines_dropped: gives how many lines of the log nobody took.
        unread_files: gives how many watched files cannot be read, so that what they held before stays in effect.
        workers: where there are several, how many are configured and how many are ready.
        worker_restarts: trials to start another worker in the place of one that has ended.
    """

    def __init__(self, describe: Callable[[], Description] = Description) -> None:
        self.describe = describe
        self.handled: list[Counter[str]] = [Counter() for _ in METHODS]
        self.denied: Counter[str] = Counter()
        self.started = [0] * len(METHODS)
        self.images = 0
        self._classes = _no_classes(0)
        self.dropped: Counter[tuple[str, str]] = Counter()
        self.reloads: Counter[str] = Counter()
        self.queued_images = [0] * len(TRAFFIC)
        self.run_images = [0] * len(TRAFFIC)
        self.batch_images = Histogram(IMAGES)
        self.run_seconds = Histogram(SECONDS)
        self.queue_seconds = [Histogram(SECONDS) for _ in TRAFFIC]
        self.request_seconds = [[Histogram(SECONDS) for _ in TRAFFIC] for _ in METHODS]
        self.ready = False
        self.log_lines_dropped: Callable[[], int] = streams.dropped
        self.unread_files: Callable[[], int] = unread_files.count
        self.workers: dict[str, int] = {}
        self.worker_restarts = 0

    @property
    def requests(self) -> Counter[str]:
        """Ended calls by gRPC code name."""
        return sum((counter.copy() for counter in self.handled), self.denied.copy())

    def ended(
        self, method: int | None, code: str, *, traffic: int | None = None, dropped: str = "", count: int = 1
    ) -> None:
        """Count calls that have ended.

        Args:
            method: the place in METHODS; None if they ended before it was known.
            code: the gRPC code's name, as the caller sees it.
            traffic: the place in TRAFFIC; None if that was not known.
            dropped: why they never reached a Run, see `dropped` above; empty if they did.
            count: how many.
        """
        if dropped:
            self.dropped[dropped, "" if traffic is None else TRAFFIC[traffic]] += count
        (self.denied if method is None else self.handled[method])[code] += count

    def turned_away(self, reason: str) -> None:
        """Count a call that the transport ended before it was read, for one of the reasons of `dropped`."""
        if reason == "unauthenticated":
            self.ended(None, StatusCode.UNAUTHENTICATED.name, dropped=reason)
        else:
            self.dropped[reason, ""] += 1

    def count_classes(self, class_ids: npt.NDArray[np.int32], classes: int) -> None:
        """Count answers; with another number of classes than before, from the beginning."""
        few, many = self._classes
        if len(few) != classes:
            few, many = self._classes = _no_classes(classes)
        if len(class_ids) <= FEW:
            for class_id in class_ids.tolist():
                few[class_id] += 1
            return
        many += np.bincount(class_ids, minlength=classes)

    @property
    def classes(self) -> list[int]:
        """Images answered with each class."""
        few, many = self._classes
        return [a + b for a, b in zip(few, many.tolist(), strict=True)]

    def snapshot(self) -> dict[str, Any]:
        """The present values as plain JSON types."""
        return {
            "handled": [dict(counter) for counter in self.handled],
            "denied": dict(self.denied),
            "started": self.started,
            "images": self.images,
            "classes": self.classes,
            "dropped": [[*key, count] for key, count in self.dropped.copy().items()],
            "reloads": dict(self.reloads),
            "queued_images": self.queued_images,
            "run_images": self.run_images,
            "histograms": {name: [histogram.counts, histogram.sum] for name, histogram in self._histograms().items()},
            "ready": self.ready,
            "log_lines_dropped": self.log_lines_dropped(),
            "unread_files": self.unread_files(),
            "served": {name: dict(values) for name, values in self.describe()._asdict().items()},
        }

    def add(self, snapshot: dict[str, Any]) -> None:
        """Add another process's snapshot; `ready` and the model's labels and GPU are taken over."""
        for counter, theirs in zip(self.handled, snapshot["handled"], strict=True):
            counter.update(theirs)
        self.denied.update(snapshot["denied"])
        self.started = [a + b for a, b in zip(self.started, snapshot["started"], strict=True)]
        self.images += snapshot["images"]
        theirs = snapshot["classes"]
        ours = self.classes if len(self.classes) == len(theirs) else [0] * len(theirs)
        self._classes = [a + b for a, b in zip(ours, theirs, strict=True)], np.zeros(len(theirs), np.int64)
        for reason, traffic, count in snapshot["dropped"]:
            self.dropped[reason, traffic] += count
        self.reloads.update(snapshot["reloads"])
        self.queued_images = [a + b for a, b in zip(self.queued_images, snapshot["queued_images"], strict=True)]
        self.run_images = [a + b for a, b in zip(self.run_images, snapshot["run_images"], strict=True)]
        for name, histogram in self._histograms().items():
            histogram.add(*snapshot["histograms"][name])
        self.ready = snapshot["ready"]
        lines = self.log_lines_dropped() + snapshot["log_lines_dropped"]
        self.log_lines_dropped = lambda: lines
        files = max(self.unread_files(), snapshot["unread_files"])  # all processes watch the same ones
        self.unread_files = lambda: files
        theirs = Description(**snapshot["served"])
        described = theirs._replace(drift=drift.add(self.describe().drift, theirs.drift))
        self.describe = lambda: described

    def _histograms(self) -> dict[str, Histogram]:
        named = {"batch_images": self.batch_images, "run_seconds": self.run_seconds}
        for traffic, name in enumerate(TRAFFIC):
            named[f"queue_seconds {name}"] = self.queue_seconds[traffic]
            for method, path in enumerate(METHODS):
                named[f"{path} {name}"] = self.request_seconds[method][traffic]
        return named


def _no_classes(count: int) -> tuple[list[int], npt.NDArray[np.int64]]:
    """Counts of small batches, which a list adds faster, and of the others."""
    return [0] * count, np.zeros(count, np.int64)
