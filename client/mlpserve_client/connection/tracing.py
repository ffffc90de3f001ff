"""Propagate the caller's trace context with each call, if OpenTelemetry is installed."""

try:
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ModuleNotFoundError:

    def trace_metadata() -> tuple[tuple[str, str], ...]:
        """Empty: OpenTelemetry is not installed."""
        return ()

else:
    _propagator = TraceContextTextMapPropagator()

    def trace_metadata() -> tuple[tuple[str, str], ...]:
        """`traceparent` and `tracestate` of the current span; empty outside a span."""
        if not trace.get_current_span().get_span_context().is_valid:
            return ()
        carrier: dict[str, str] = {}
        _propagator.inject(carrier)
        return tuple(carrier.items())
