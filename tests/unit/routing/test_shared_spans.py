"""Spans of a call that several traced requests share: one leads, the others link to it."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanKind, Tracer

from services.common.telemetry import UNSAMPLED, traceparent_of
from services.routing.spans import shared_call


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter: InMemorySpanExporter) -> Tracer:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider.get_tracer("test")


def test_the_first_leads_and_the_others_link_to_it(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    requests = [tracer.start_span(f"request {n}") for n in range(3)]
    about: dict[str, str | int] = {"batch.size": 9, "model": "intent", "tier": "tiny", "replica": "routing"}
    with shared_call(tracer, "inference", requests, None, about) as header:
        pass
    leader, *others = sorted(exporter.get_finished_spans(), key=lambda span: len(span.links))
    assert leader.context is not None
    assert header == traceparent_of(NonRecordingSpan(leader.context))
    assert header.endswith("-01")
    assert leader.kind is SpanKind.CLIENT and [span.kind for span in others] == [SpanKind.INTERNAL] * 2
    made = sorted([leader, *others], key=lambda span: span.start_time or 0)
    for request, span in zip(requests, made, strict=True):
        assert span.name == "call inference"
        assert span.parent is not None
        assert span.parent.span_id == request.get_span_context().span_id
        assert span.context is not None
        assert span.context.trace_id == request.get_span_context().trace_id
        assert dict(span.attributes or {}) == {
            **about,
            "peer.service": "inference",
            "batch.sampled": 3,
            "coalesced.leader": span is leader,
        }
    for span in others:
        (link,) = span.links
        assert leader.context is not None
        assert (link.context.trace_id, link.context.span_id) == (
            leader.context.trace_id,
            leader.context.span_id,
        )


def test_nothing_sampled_makes_nothing_and_says_so(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    mine = f"00-{'a' * 32}-{'b' * 16}-00"
    for given, sent in ((None, UNSAMPLED), (mine, mine), (mine[:-1] + "1", UNSAMPLED)):
        with shared_call(tracer, "inference", [], given, {}) as header:
            assert header == sent
    assert exporter.get_finished_spans() == ()


def test_a_failed_call_is_marked_on_every_span(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    requests = [tracer.start_span(f"request {n}") for n in range(2)]
    with (
        pytest.raises(OSError, match="refused"),
        shared_call(tracer, "tokenization", requests, None, {"batch.size": 2}),
    ):
        raise OSError("refused")
    spans = exporter.get_finished_spans()
    assert [span.status.is_ok for span in spans] == [False, False]
