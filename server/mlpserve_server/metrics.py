"""Every number that the server exports, in one place.

The batching thread adds plain integers once a batch; Prometheus' format is made when somebody scrapes. So a request
costs no lock and no label look-up.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from mlpserve_server.config import split_address
from mlpserve_server.errors import ListenError

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
        requests: ended Predict calls by gRPC code name.
        images: images answered.
        dropped: calls that never reached a Run, by reason: "overload", "hopeless" (the deadline would have passed in
            the queue), "expired", "cancelled", "invalid", "draining", "not_ready", "unauthenticated".
        reloads: versions that were tried while another one served, by result: "served" or "refused".
        queued_images: images waiting now.
        batch_images: images in a batch.
        run_seconds: from a batch's assembly to its replies.
        queue_seconds: from being received to the start of the batch, for each request. What came while a batch ran is
            received when it ends on the native transport, at once on grpcio.
        ready: whether the model has proven itself lately and the server is not draining.
        model: labels of `mlpserve_model_info`.
        gpu: looks at the GPU that serves, or gives nothing; see `gpu.GpuWatch.sample`.
    """

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.images = 0
        self.dropped: Counter[str] = Counter()
        self.reloads: Counter[str] = Counter()
        self.queued_images = 0
        self.batch_images = Histogram(IMAGES)
        self.run_seconds = Histogram(SECONDS)
        self.queue_seconds = Histogram(SECONDS)
        self.ready = False
        self.model: dict[str, str] = {}
        self.gpu: Callable[[], dict[str, str | int | float]] = dict

    def snapshot(self) -> dict[str, Any]:
        """The present values as plain JSON types."""
        return {
            "requests": dict(self.requests),
            "images": self.images,
            "dropped": dict(self.dropped),
            "reloads": dict(self.reloads),
            "queued_images": self.queued_images,
            "histograms": {name: [histogram.counts, histogram.sum] for name, histogram in self._histograms().items()},
            "ready": self.ready,
            "model": self.model,
            "gpu": self.gpu(),
        }

    def add(self, snapshot: dict[str, Any]) -> None:
        """Add another process's snapshot; `ready`, `model` and `gpu` are taken over."""
        self.requests.update(snapshot["requests"])
        self.images += snapshot["images"]
        self.dropped.update(snapshot["dropped"])
        self.reloads.update(snapshot["reloads"])
        self.queued_images += snapshot["queued_images"]
        for name, histogram in self._histograms().items():
            histogram.add(*snapshot["histograms"][name])
        self.ready, self.model = snapshot["ready"], snapshot["model"]
        self.gpu = lambda: snapshot["gpu"]

    def _histograms(self) -> dict[str, Histogram]:
        return {"batch_images": self.batch_images, "run_seconds": self.run_seconds, "queue_seconds": self.queue_seconds}

    def collect(self) -> Iterator[Metric]:
        """The present values in prometheus_client's form."""
        yield _counter("mlpserve_requests", "Predict calls that ended, by gRPC code.", "code", self.requests)
        yield _counter("mlpserve_dropped", "Predict calls that never reached a Run, by reason.", "reason", self.dropped)
        yield _counter("mlpserve_reloads", "Versions tried while another one served.", "result", self.reloads)
        yield CounterMetricFamily("mlpserve_images", "Images answered.", value=self.images)
        yield GaugeMetricFamily("mlpserve_queue_images", "Images waiting.", value=self.queued_images)
        yield GaugeMetricFamily("mlpserve_ready", "1 when the model is proven and served.", value=int(self.ready))
        yield _histogram("mlpserve_batch_images", "Images in one batch.", self.batch_images)
        yield _histogram("mlpserve_run_seconds", "Seconds from a batch's assembly to its replies.", self.run_seconds)
        yield _histogram(
            "mlpserve_queue_seconds", "Seconds from the transport to the start of a call's batch.", self.queue_seconds
        )
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
        self._thread.join()
