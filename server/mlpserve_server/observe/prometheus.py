"""The server's numbers in Prometheus' format, made when somebody scrapes, and the endpoint that gives them."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from mlpserve_server.calls import METHODS, TRAFFIC
from mlpserve_server.config import split_address
from mlpserve_server.errors import ListenError
from mlpserve_server.observe import drift
from mlpserve_server.observe.bounded_http import serve
from mlpserve_server.observe.histogram import Histogram
from mlpserve_server.observe.metrics import Description, Metrics

GPU_GAUGES = (
    ("mlpserve_gpu_memory_used_bytes", "Memory in use on the GPU, by every process.", "memory_used"),
    ("mlpserve_gpu_memory_bytes", "Memory of the GPU.", "memory_total"),
    ("mlpserve_gpu_utilization_ratio", "Share of the last moments in which a kernel ran.", "utilisation"),
)


def families(metrics: Metrics) -> Iterator[Metric]:
    """The present values in prometheus_client's form."""
    yield _counter("mlpserve_requests", "Calls that ended, by gRPC code.", "code", metrics.requests)
    dropped = CounterMetricFamily(
        "mlpserve_dropped", "Calls that never reached a Run, by reason.", labels=["reason", "traffic"]
    )
    for key, count in sorted(metrics.dropped.copy().items()):
        dropped.add_metric(key, count)
    yield dropped
    yield _counter("mlpserve_reloads", "Versions tried while another one served.", "result", metrics.reloads)
    yield CounterMetricFamily("mlpserve_images", "Images answered.", value=metrics.images)
    classes = Counter({str(index): count for index, count in enumerate(metrics.classes)})
    yield _counter("mlpserve_predictions", "Images answered with each class.", "class_id", classes)
    queued = GaugeMetricFamily("mlpserve_queue_images", "Images waiting.", labels=["traffic"])
    ran = CounterMetricFamily("mlpserve_run_images", "Images that have run.", labels=["traffic"])
    for name, waiting, run in zip(TRAFFIC, metrics.queued_images, metrics.run_images, strict=True):
        queued.add_metric([name], waiting)
        ran.add_metric([name], run)
    yield from (queued, ran)
    yield GaugeMetricFamily("mlpserve_ready", "1 when the model is proven and served.", value=int(metrics.ready))
    yield _histogram("mlpserve_batch_images", "Images in one batch.", metrics.batch_images)
    yield _histogram("mlpserve_run_seconds", "Seconds from a batch's assembly to its replies.", metrics.run_seconds)
    queue = HistogramMetricFamily(
        "mlpserve_queue_seconds", "Seconds from the transport to the start of a call's batch.", labels=["traffic"]
    )
    for name, histogram in zip(TRAFFIC, metrics.queue_seconds, strict=True):
        queue.add_metric([name], buckets=histogram.cumulative(), sum_value=histogram.sum)
    yield queue
    yield CounterMetricFamily(
        "mlpserve_log_lines_dropped",
        "Log lines dropped because nobody read the log.",
        value=metrics.log_lines_dropped(),
    )
    yield GaugeMetricFamily(
        "mlpserve_unread_files",
        "Files of tokens or certificates that cannot be read now, so that what they held before stays in effect.",
        value=metrics.unread_files(),
    )
    yield from _worker_families(metrics)
    yield from _grpc_families(metrics)
    yield from _model_families(metrics.describe())


def _worker_families(metrics: Metrics) -> Iterator[Metric]:
    """Of the workers; nothing from a process that serves alone."""
    if not metrics.workers:
        return
    workers = GaugeMetricFamily("mlpserve_workers", "Processes that share the port.", labels=["state"])
    for state, count in metrics.workers.items():
        workers.add_metric([state], count)
    yield workers
    yield CounterMetricFamily(
        "mlpserve_worker_restarts", "Attempts to replace a worker that died.", value=metrics.worker_restarts
    )


def _model_families(served: Description) -> Iterator[Metric]:
    yield from _drift_families(served.drift)
    if served.labels:
        info = GaugeMetricFamily("mlpserve_model_info", "What answers Predict.", labels=list(served.labels))
        info.add_metric(list(served.labels.values()), 1)
        yield info
    if served.gpu:
        for name, text, key in GPU_GAUGES:
            gauge = GaugeMetricFamily(name, text, labels=["gpu"])
            gauge.add_metric([str(served.gpu["gpu"])], float(served.gpu[key]))
            yield gauge


def _grpc_families(metrics: Metrics) -> Iterator[Metric]:
    """The same under the names that gRPC's own interceptors have made common."""
    labels = ["grpc_type", "grpc_service", "grpc_method"]
    started = CounterMetricFamily("grpc_server_started", "Calls that have arrived.", labels=labels)
    handled = CounterMetricFamily("grpc_server_handled", "Calls that ended.", labels=[*labels, "grpc_code"])
    seconds = HistogramMetricFamily(
        "grpc_server_handling_seconds",
        "Seconds from a call's arrival until its reply was sent.",
        labels=[*labels, "traffic"],
    )
    for index, path in enumerate(METHODS):
        _, service, method = path.split("/")
        values = ["unary", service, method]
        started.add_metric(values, metrics.started[index])
        for code, count in sorted(metrics.handled[index].copy().items()):
            handled.add_metric([*values, _camel(code)], count)
        for name, histogram in zip(TRAFFIC, metrics.request_seconds[index], strict=True):
            seconds.add_metric([*values, name], buckets=histogram.cumulative(), sum_value=histogram.sum)
    yield from (started, handled, seconds)


def _camel(code: str) -> str:
    """RESOURCE_EXHAUSTED → ResourceExhausted, as those interceptors write it, by Go's names; OK stays."""
    if code == "CANCELLED":
        return "Canceled"
    return code if code == "OK" else "".join(word.capitalize() for word in code.split("_"))


def _drift_families(window: Mapping[str, Any]) -> Iterator[Metric]:
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
            self._server = serve(make_wsgi_app(registry), host, port)
        except OSError as error:
            raise ListenError(f"--metrics-listen {listen}: {error.strerror}; take another port") from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()  # it has ended its loop; whoever closes bounds all of this
