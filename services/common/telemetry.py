"""Traces in OpenTelemetry; the logs name what is traced.

The gateway decides which requests are traced; a service follows the `traceparent` it is given (W3C Trace
Context) and makes no span object for a request that is not sampled. The exporter is imported only when there
is somewhere to export to: it costs 0.2 s at start.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags, Tracer

from services.common import logs
from services.common.settings import ServiceSettings

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")

# Sent with calls that nothing sampled: without it the sidecar would begin a trace of its own.
UNSAMPLED = "00-6d6573686d6573686d6573686d657368-6d6573686d657368-00"


def setup(settings: ServiceSettings) -> Tracer:
    """Set up logging and tracing for this process and return its tracer.

    Spans go to `settings.otlp_endpoint` in batches from a bounded queue (2,048 spans; what does not fit is
    dropped); without an endpoint the tracer records nothing but still passes the trace on.
    """
    logs.to_stderr(settings.app_id, settings.instance, settings.log_level, current)
    if not settings.otlp_endpoint:
        return trace.NoOpTracer()

    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio  # noqa: PLC0415

    provider = TracerProvider(
        resource=Resource.create(
            {
                "service.name": settings.app_id,
                "service.instance.id": settings.instance,
                "service.namespace": "foremesh",
            }
        ),
        sampler=ParentBasedTraceIdRatio(settings.trace_ratio),
        shutdown_on_exit=True,
    )
    exporter = OTLPSpanExporter(endpoint=settings.otlp_endpoint.rstrip("/") + "/v1/traces", timeout=2)
    provider.add_span_processor(
        BatchSpanProcessor(
            exporter,
            max_queue_size=2048,
            max_export_batch_size=256,
            schedule_delay_millis=1000,
            export_timeout_millis=3000,
        )
    )
    trace.set_tracer_provider(provider)
    return provider.get_tracer("foremesh")


def flush(timeout_s: float = 1.0) -> None:
    """Send the spans that wait, for `timeout_s` seconds at most."""
    provider = trace.get_tracer_provider()
    force_flush = getattr(provider, "force_flush", None)
    if force_flush is not None:
        force_flush(int(timeout_s * 1000))


def sampled(traceparent: str | None) -> bool:
    """Return whether the trace named by this header is recorded."""
    return bool(traceparent) and _parts(traceparent, only_sampled=True) is not None


def trace_id(traceparent: str | None) -> str | None:
    """Return the 32 hex digits of the trace in this header, or None when it names none."""
    parts = _parts(traceparent)
    return None if parts is None else parts[0]


def parent(traceparent: str) -> Context:
    """Return the context whose spans are children of the span in this header; an empty one when it names
    none.
    """
    parts = _parts(traceparent)
    if parts is None:
        return Context()
    remote = SpanContext(
        int(parts[0], 16), int(parts[1], 16), is_remote=True, trace_flags=TraceFlags(int(parts[2], 16) & 1)
    )
    return trace.set_span_in_context(NonRecordingSpan(remote), Context())


def traceparent_of(span: Span) -> str:
    """Return the header that names `span` as the parent."""
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & 1:02x}"


def begin(
    tracer: Tracer,
    name: str,
    traceparent: str | None,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Mapping[str, str | int | float | bool] | None = None,
    links: Sequence[Span] = (),
    start_ns: int | None = None,
) -> Span | None:
    """Return a started child span of the span in `traceparent`, or None when that trace is not sampled.

    `links` are spans that did work for this one in another trace; `start_ns` epoch nanoseconds (default:
    now). The caller ends it.
    """
    if not sampled(traceparent):
        return None
    assert traceparent is not None  # noqa: S101  # a missing header is not sampled
    return tracer.start_span(
        name,
        context=parent(traceparent),
        kind=kind,
        attributes=attributes,
        links=[Link(span.get_span_context()) for span in links],
        start_time=start_ns,
    )


def current() -> dict[str, str]:
    """Trace and span of what is running, where it is traced."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


def _parts(traceparent: str | None, only_sampled: bool = False) -> tuple[str, str, str] | None:
    if not traceparent or len(traceparent) < 55:
        return None
    # Most requests are not traced: their last digit says so without reading the rest.
    if only_sampled and traceparent[54] in "02468ace":
        return None
    match = _TRACEPARENT.match(traceparent)
    return None if match is None else (match[1], match[2], match[3])
