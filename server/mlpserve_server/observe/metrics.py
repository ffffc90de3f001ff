"""Every number that the server exports, in one place.

The batching thread adds plain integers once a batch; Prometheus' format is made when somebody scrapes. So a request
costs no lock and no label look-up.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from mlpserve_server.calls import METHODS
from mlpserve_server.config import split_address
from mlpserve_server.errors import ListenError
from mlpserve_server.host import streams
from mlpserve_server.observe import drift

SECONDS = (25e-5, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 16e-3, 32e-3, 64e-3, 128e-3, 256e-3, 512e-3, 1.0, 2.0)
IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
GPU_GAUGES = (
    ("mlpserve_gpu_memory_used_bytes", "Memory in use on the GPU, by every process.", "memory_used"),
    ("mlpserve_gpu_memory_bytes", "Memory of the GPU.", "memory_total"),
    ("mlpserve_gpu_utilization_ratio", "Share of the last moments in which a kernel ran.", "utilisation"),
)


class Histogram:
    """Counts of values by bucket; written by one thread.

    Args:
        bounds: upper bounds of the buckets, ascending.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    def add(self, counts: Sequence[int], total: float) -> None:
        """Add another histogram with the same bounds."""
        self.counts = [ours + theirs for ours, theirs in zip(self.counts, counts, strict=True)]
        self.sum += total

    def cumulative(self) -> list[tuple[str, float]]:
        """Prometheus' buckets: (upper bound, count of values up to it)."""
        total, buckets = 0, []
        for bound, count in zip([*map(str, self.bounds), "+Inf"], self.counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        return buckets


class Metrics:
    """The server's counters.

    Attributes:
        handled: for each of METHODS, and last for calls that were denied before it was known: ended calls by gRPC code
            name.
        started: for each of METHODS, calls that have arrived.
        images: images answered.
        classes: images answered with each class.
        dropped: calls that never reached a Run, by reason: "overload", "hopeless" (the deadline would have passed in
            the queue), "expired", "cancelled", "invalid", "draining", "not_ready", "unauthenticated"; by the transport
            "slow" (the message did not arrive), "unread" (there was no room for it), "streams" (too many are open).
        reloads: versions that were tried while another one served, by result: "served" or "refused".
        queued_images: images waiting now.
        batch_images: images in a batch.
        run_seconds: from a batch's assembly to its replies.
        queue_seconds: from being received to the start of the batch, for each request. What came while a batch ran is
            received when it ends on the native transport, at once on grpcio.
        request_seconds: for each of METHODS, from being received to the reply, for each request that was answered.
        ready: whether the model has proven itself lately and the server is not draining.
        model: labels of `mlpserve_model_info`.
        drift: gives the counts of `drift.DriftWindow.snapshot`, or nothing.
        log_lines_dropped: gives how many lines of the log nobody took.
        workers: where there are several, how many are configured and how many are ready.
        worker_restarts: trials to start another worker in the place of one that has ended.
        gpu: looks at the GPU that serves, or gives nothing; see `gpu.GpuWatch.sample`.
    """

    def __init__(self) -> None:
        self.handled: list[Counter[str]] = [Counter() for _ in range(len(METHODS) + 1)]
        self.started = [0] * len(METHODS)
        self.images = 0
        self.classes: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self.dropped: Counter[str] = Counter()
        self.reloads: Counter[str] = Counter()
        self.queued_images = 0
        self.batch_images = Histogram(IMAGES)
        self.run_seconds = Histogram(SECONDS)
        self.queue_seconds = Histogram(SECONDS)
        self.request_seconds = [Histogram(SECONDS) for _ in METHODS]
        self.ready = False
        self.model: dict[str, str] = {}
        self.drift: Callable[[], dict[str, Any]] = dict
        self.log_lines_dropped: Callable[[], int] = streams.dropped
        self.workers: dict[str, int] = {}
        self.worker_restarts = 0
        self.gpu: Callable[[], dict[str, str | int | float]] = dict

    @property
    def requests(self) -> Counter[str]:
        """Ended calls of all METHODS by gRPC code name."""
        return sum((counter.copy() for counter in self.handled), Counter())

    def count_classes(self, class_ids: npt.NDArray[np.int32], classes: int) -> None:
        """Count answers; with another number of classes than before, from the beginning."""
        if len(self.classes) != classes:
            self.classes = np.zeros(classes, np.int64)
        self.classes += np.bincount(class_ids, minlength=classes)

    def snapshot(self) -> dict[str, Any]:
        """The present values as plain JSON types."""
        return {
            "handled": [dict(counter) for counter in self.handled],
            "started": self.started,
            "images": self.images,
            "classes": self.classes.tolist(),
            "dropped": dict(self.dropped),
            "reloads": dict(self.reloads),
            "queued_images": self.queued_images,
            "histograms": {name: [histogram.counts, histogram.sum] for name, histogram in self._histograms().items()},
            "ready": self.ready,
            "model": self.model,
            "drift": self.drift(),
            "log_lines_dropped": self.log_lines_dropped(),
            "gpu": self.gpu(),
        }

    def add(self, snapshot: dict[str, Any]) -> None:
        """Add another process's snapshot; `ready`, `model` and `gpu` are taken over."""
        for counter, theirs in zip(self.handled, snapshot["handled"], strict=True):
            counter.update(theirs)
        self.started = [a + b for a, b in zip(self.started, snapshot["started"], strict=True)]
        self.images += snapshot["images"]
        classes = np.array(snapshot["classes"], np.int64)
        self.classes = self.classes + classes if len(self.classes) == len(classes) else classes
        self.dropped.update(snapshot["dropped"])
        self.reloads.update(snapshot["reloads"])
        self.queued_images += snapshot["queued_images"]
        for name, histogram in self._histograms().items():
            histogram.add(*snapshot["histograms"][name])
        self.ready, self.model = snapshot["ready"], snapshot["model"]
        self.gpu = lambda: snapshot["gpu"]
        lines = self.log_lines_dropped() + snapshot["log_lines_dropped"]
        self.log_lines_dropped = lambda: lines
        total = drift.add(self.drift(), snapshot["drift"])
        self.drift = lambda: total

    def _histograms(self) -> dict[str, Histogram]:
        named = {
            "batch_images": self.batch_images,
            "run_seconds": self.run_seconds,
            "queue_seconds": self.queue_seconds,
        }
        return named | dict(zip(METHODS, self.request_seconds, strict=True))

    def collect(self) -> Iterator[Metric]:
        """The present values in prometheus_client's form."""
        yield _counter("mlpserve_requests", "Calls that ended, by gRPC code.", "code", self.requests)
        yield _counter("mlpserve_dropped", "Calls that never reached a Run, by reason.", "reason", self.dropped)
        yield _counter("mlpserve_reloads", "Versions tried while another one served.", "result", self.reloads)
        yield CounterMetricFamily("mlpserve_images", "Images answered.", value=self.images)
        classes = Counter({str(index): int(count) for index, count in enumerate(self.classes)})
        yield _counter("mlpserve_predictions", "Images answered with each class.", "class_id", classes)
        yield GaugeMetricFamily("mlpserve_queue_images", "Images waiting.", value=self.queued_images)
        yield GaugeMetricFamily("mlpserve_ready", "1 when the model is proven and served.", value=int(self.ready))
        yield _histogram("mlpserve_batch_images", "Images in one batch.", self.batch_images)
        yield _histogram("mlpserve_run_seconds", "Seconds from a batch's assembly to its replies.", self.run_seconds)
        yield _histogram(
            "mlpserve_queue_seconds", "Seconds from the transport to the start of a call's batch.", self.queue_seconds
        )
        dropped = self.log_lines_dropped()
        yield CounterMetricFamily(
            "mlpserve_log_lines_dropped", "Log lines dropped because nobody read the log.", value=dropped
        )
        if self.workers:
            workers = GaugeMetricFamily("mlpserve_workers", "Processes that share the port.", labels=["state"])
            for state, count in self.workers.items():
                workers.add_metric([state], count)
            restarts = self.worker_restarts
            yield workers
            yield CounterMetricFamily(
                "mlpserve_worker_restarts", "Attempts to replace a worker that died.", value=restarts
            )
        yield from self._grpc_families()
        yield from _drift_families(self.drift())
        if self.model:
            info = GaugeMetricFamily("mlpserve_model_info", "What answers Predict.", labels=list(self.model))
            info.add_metric(list(self.model.values()), 1)
            yield info
        if sample := self.gpu():
            gpu = str(sample["gpu"])
            for name, text, key in GPU_GAUGES:
                gauge = GaugeMetricFamily(name, text, labels=["gpu"])
                gauge.add_metric([gpu], float(sample[key]))
                yield gauge

    def _grpc_families(self) -> Iterator[Metric]:
        """The same under the names that gRPC's own interceptors have made common."""
        labels = ["grpc_type", "grpc_service", "grpc_method"]
        started = CounterMetricFamily("grpc_server_started", "Calls that have arrived.", labels=labels)
        handled = CounterMetricFamily("grpc_server_handled", "Calls that ended.", labels=[*labels, "grpc_code"])
        seconds = HistogramMetricFamily(
            "grpc_server_handling_seconds", "Seconds from the transport to the reply.", labels=labels
        )
        for index, path in enumerate(METHODS):
            _, service, method = path.split("/")
            values = ["unary", service, method]
            started.add_metric(values, self.started[index])
            for code, count in sorted(self.handled[index].copy().items()):
                handled.add_metric([*values, _camel(code)], count)
            histogram = self.request_seconds[index]
            seconds.add_metric(values, buckets=histogram.cumulative(), sum_value=histogram.sum)
        yield from (started, handled, seconds)


def _camel(code: str) -> str:
    """RESOURCE_EXHAUSTED → ResourceExhausted, as those interceptors write it; OK stays."""
    return code if code == "OK" else "".join(word.capitalize() for word in code.split("_"))


def _drift_families(window: dict[str, Any]) -> Iterator[Metric]:
    """Of a snapshot of `drift.DriftWindow`; nothing for a model without a reference."""
    if not window:
        return
    yield GaugeMetricFamily("mlpserve_drift_images", "Images of the last ten minutes sampled.", value=window["images"])
    if not window["images"]:
        return
    reference = window["reference"]
    index = GaugeMetricFamily(
        "mlpserve_drift_psi", "Population stability index against the training's validation images.", labels=["of"]
    )
    for name in ("classes", "confidence"):
        index.add_metric([name], drift.stability_index(window[name], reference[name]))
    yield index
    ink = GaugeMetricFamily("mlpserve_drift_ink", "Mean of all pixels, 0 to 1.", labels=["of"])
    ink.add_metric(["window"], window["ink"] / window["images"])
    ink.add_metric(["reference"], reference["ink"])
    yield ink


class _ServerCollector(Collector):
    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        return self._collect()


def _counter(name: str, text: str, label: str, values: Counter[str]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for key, value in sorted(values.copy().items()):
        family.add_metric([key], value)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    family = HistogramMetricFamily(name, text)
    family.add_metric([], buckets=histogram.cumulative(), sum_value=histogram.sum)
    return family


class MetricsEndpoint:
    """Prometheus' HTTP endpoint.

    Args:
        collect: gives the present values.
        listen: "HOST:PORT".

    Raises:
        ListenError: the address cannot be listened on.
    """

    def __init__(self, collect: Callable[[], Iterable[Metric]], listen: str) -> None:
        registry = CollectorRegistry()
        registry.register(_ServerCollector(collect))
        host, port = split_address(listen, "--metrics-listen")
        try:
            self._server, self._thread = start_http_server(port, addr=host, registry=registry)
        except OSError as error:
            raise ListenError(f"--metrics-listen {listen}: {error.strerror}; take another port") from error

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()  # it has ended its loop; whoever closes bounds all of this
