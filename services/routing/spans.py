"""Spans of a call that several traced requests share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer

from services.common.telemetry import UNSAMPLED, traceparent_of


@contextmanager
def shared_call(
    tracer: Tracer,
    app: str,
    spans: Sequence[Span],
    traceparent: str | None,
    attributes: Mapping[str, str | int],
) -> Iterator[str]:
    """Yield the `traceparent` to send with one call to `app` that serves the requests of `spans`, the sampled
    ones.

    The call belongs to the trace of the first; each other gets a span of its own, with a link to that call.
    When none is sampled no span is made, and what is sent says so: else the sidecar would begin a trace of
    its own. `traceparent` is that of the first request, sampled or not.
    """
    if not spans:
        yield traceparent if traceparent and traceparent.endswith("-00") else UNSAMPLED
        return
    about = {**attributes, "peer.service": app, "batch.sampled": len(spans)}
    made: list[Span] = []
    for span in spans:
        made.append(
            tracer.start_span(
                f"call {app}",
                context=trace.set_span_in_context(span, Context()),
                kind=SpanKind.INTERNAL if made else SpanKind.CLIENT,
                attributes={**about, "coalesced.leader": not made},
                links=[Link(made[0].get_span_context())] if made else [],
            )
        )
    try:
        yield traceparent_of(made[0])
    except Exception as error:
        for span in made:
            span.set_status(Status(StatusCode.ERROR, str(error)[:200]))
        raise
    finally:
        for span in made:
            span.end()
