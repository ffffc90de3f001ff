"""Spans of requests whose callers trace them: OpenTelemetry, `--trace`, the extra `tracing`.

    caller's span ─▶ Predict (server) ─▶ queue
                          │          └▶ run ··· link ··▶ batch
                          └··· link from the batch's span

A call that ends without an answer has its own span alone, with its status.

A caller is asked to send `traceparent` (W3C trace context); calls without it, or not sampled, cost nothing more than a
look at their metadata.
"""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from grpc import StatusCode

from mlpserve.shown import shown
from mlpserve_server.calls import METHODS, TRAFFIC, Call
from mlpserve_server.errors import ConfigError

log = logging.getLogger(__name__)

# What OpenTelemetry's conventions count as an error of a server.
SERVERS_FAULTS = {
    StatusCode.UNKNOWN,
    StatusCode.DEADLINE_EXCEEDED,
    StatusCode.UNIMPLEMENTED,
    StatusCode.INTERNAL,
    StatusCode.UNAVAILABLE,
    StatusCode.DATA_LOSS,
}


class Tracing:
    """Makes spans of batches that have been answered.

    Args:
        where: "otlp", to the collector that the OTEL_EXPORTER_OTLP_… variables name, or the path of a file that gets
            one JSON object a span.
        service: what the spans say that they are of.

    Raises:
        ConfigError: OpenTelemetry is not installed, or the file cannot be written.
    """

    def __init__(self, where: str, service: Mapping[str, str]) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ModuleNotFoundError as error:
            raise ConfigError(f"--trace: {error.name} is not installed; pip install 'mlpserve[tracing]'") from error
        self._trace = trace
        self._propagator = TraceContextTextMapPropagator()
        self._provider = TracerProvider(resource=Resource.create({"service.name": "mlpserve", **service}))
        exporter: SpanExporter
        if where == "otlp":
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

            exporter = OTLPSpanExporter()
        else:
            exporter = _file_exporter(Path(where))
        # In a thread of its own, from a queue that drops: the loop that answers waits for no collector and no disk.
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("mlpserve")

    def answered(self, calls: Sequence[Call], images: int, started: float, now: float) -> None:
        """Make the spans of a batch.

        Args:
            calls: of the batch.
            images: in the batch.
            started: time.monotonic() when the batch began.
            now: time.monotonic() of the answers.
        """
        traced = [(call, parent) for call in calls if (parent := self._parent(call)) is not None]
        if not traced:
            return
        clock = time.time_ns() - int(now * 1e9)  # spans have the wall's time

        def nanoseconds(moment: float) -> int:
            return clock + int(moment * 1e9)

        requests = [self._request(call, parent, StatusCode.OK, nanoseconds(call.arrived)) for call, parent in traced]
        batch = self._tracer.start_span(
            "batch",
            self._trace.set_span_in_context(self._trace.INVALID_SPAN),
            attributes={"mlpserve.images": images, "mlpserve.requests": len(calls)},
            links=[self._trace.Link(span.get_span_context()) for span in requests],
            start_time=nanoseconds(started),
        )
        for (call, _), span in zip(traced, requests, strict=True):
            inside = self._trace.set_span_in_context(span)
            queue = self._tracer.start_span("queue", inside, start_time=nanoseconds(call.arrived))
            queue.end(nanoseconds(started))
            link = [self._trace.Link(batch.get_span_context())]
            run = self._tracer.start_span("run", inside, links=link, start_time=nanoseconds(started))
            run.end(nanoseconds(now))
            span.end(nanoseconds(now))
        batch.end(nanoseconds(now))

    def failed(self, call: Call, code: StatusCode, reason: str) -> None:
        """Make the span of a call that ends without an answer.

        Args:
            call: that ends now.
            code: with which status.
            reason: its message.
        """
        parent = self._parent(call)
        if parent is None:
            return
        clock = time.time_ns() - time.monotonic_ns()
        span = self._request(call, parent, code, clock + int(call.arrived * 1e9))
        span.set_attribute("mlpserve.reason", shown(reason))
        if code in SERVERS_FAULTS:
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR))
        span.end(clock + time.monotonic_ns())

    def _request(self, call: Call, parent: Any, code: StatusCode, began: int) -> Any:
        """A call's span, which began at a time.time_ns() and has not ended."""
        _, service, method = METHODS[call.method].split("/")
        names: dict[str, Any] = {
            "rpc.system": "grpc",
            "rpc.service": service,
            "rpc.method": method,
            "rpc.grpc.status_code": code.value[0],
            "mlpserve.images": call.images,
            "mlpserve.traffic": "" if call.traffic is None else TRAFFIC[call.traffic],
        }
        kind = self._trace.SpanKind.SERVER
        return self._tracer.start_span(f"{service}/{method}", parent, kind, names, start_time=began)

    def _parent(self, call: Call) -> Any:
        """The caller's context; None if it does not trace this call."""
        metadata = call.metadata()
        if "traceparent" not in metadata:
            return None
        context = self._propagator.extract(metadata)
        return context if self._trace.get_current_span(context).get_span_context().trace_flags.sampled else None

    def close(self) -> None:
        """Send what has not been sent."""
        self._provider.shutdown()


def _file_exporter(path: Path) -> Any:
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    try:
        file = path.open("a", buffering=1)
    except OSError as error:
        raise ConfigError(f"--trace {path}: {error.strerror}; expected otlp, or a file that can be written") from error

    class FileExporter(SpanExporter):
        def export(self, spans: Sequence[Any]) -> Any:
            for span in spans:
                file.write(json.dumps(json.loads(span.to_json(indent=None))) + "\n")
            return SpanExportResult.SUCCESS

        def shutdown(self) -> None:
            file.close()

    return FileExporter()
