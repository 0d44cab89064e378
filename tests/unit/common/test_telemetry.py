"""Trace context in and out, the sampling rule, and JSON log lines."""

from __future__ import annotations

import json
import logging
import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import NoOpTracer

from services.common import telemetry
from services.common.logs import JsonLines, OnceAMinute

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{SPAN}-01"
UNSAMPLED = f"00-{TRACE}-{SPAN}-00"
NONSENSE = [
    None,
    "",
    "x",
    SAMPLED[:-1],
    f"ff-{TRACE}-{SPAN}-01",
    f"00-{'0' * 32}-{SPAN}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"00-{TRACE.upper()}-{SPAN}-01",
    f"00-{'g' * 32}-{SPAN}-01",
]


def test_only_a_sampled_trace_makes_spans() -> None:
    tracer = TracerProvider(sampler=ParentBasedTraceIdRatio(0.0)).get_tracer("test")
    assert telemetry.sampled(SAMPLED)
    assert telemetry.begin(tracer, "a", UNSAMPLED) is None
    for nonsense in NONSENSE:
        assert telemetry.begin(tracer, "a", nonsense) is None
    span = telemetry.begin(tracer, "a", SAMPLED, attributes={"batch.size": 3})
    assert span is not None and span.is_recording()
    sent = telemetry.traceparent_of(span)
    assert sent[:35] == f"00-{TRACE}"
    assert sent[36:52] != SPAN and sent.endswith("-01")
    span.end()


def test_without_an_exporter_the_trace_is_still_passed_on() -> None:
    span = telemetry.begin(NoOpTracer(), "a", SAMPLED)
    assert span is not None
    assert telemetry.traceparent_of(span) == SAMPLED


def test_the_trace_id_is_read_from_good_headers_only() -> None:
    assert telemetry.trace_id(SAMPLED) == telemetry.trace_id(UNSAMPLED) == TRACE
    assert [telemetry.trace_id(header) for header in NONSENSE] == [None] * len(NONSENSE)
    assert telemetry.trace_id(telemetry.UNSAMPLED) is not None
    assert not telemetry.sampled(telemetry.UNSAMPLED)


def test_a_log_line_is_json_with_who_and_what() -> None:
    record = logging.LogRecord("foremesh.x", logging.WARNING, "f", 1, "it %s", ("broke\n",), None)
    record.why = "because"
    line = json.loads(JsonLines("routing", "routing-1").format(record))
    assert line["message"] == "it broke\n"
    assert (line["app_id"], line["instance"], line["why"]) == ("routing", "routing-1", "because")
    assert "trace_id" not in line


def test_a_log_line_carries_the_trace_and_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    tracer = TracerProvider().get_tracer("test")
    with tracer.start_as_current_span("work") as span:
        try:
            raise ValueError("wrong")
        except ValueError:
            record = logging.LogRecord("x", logging.ERROR, "f", 1, "failed", (), sys.exc_info())
        text = JsonLines("a", "b", telemetry.current).format(record)
    line = json.loads(text)
    assert "\n" not in text
    assert line["trace_id"] == f"{span.get_span_context().trace_id:032x}"
    assert "ValueError: wrong" in line["error"]


def test_a_collector_that_is_away_is_told_once_a_minute() -> None:
    once = OnceAMinute("opentelemetry")

    def told(name: str, at: float) -> bool:
        record = logging.LogRecord(name, logging.ERROR, "f", 1, "m", (), None)
        record.created = at
        return once.filter(record)

    exporter = "opentelemetry.exporter.otlp"
    assert [told(exporter, at) for at in (100.0, 101.0, 159.0, 160.0, 161.0)] == [
        True,
        False,
        False,
        True,
        False,
    ]
    assert told("foremesh.routing", 101.0)
