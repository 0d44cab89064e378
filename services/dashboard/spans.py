"""Jaeger's JSON (`GET /api/traces`) as spans: the wire format and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

_MAX_TAGS = 24
_MAX_CHARS = 200
_HIDDEN_TAGS = ("internal.", "otel.scope", "otel.library", "span.kind", "error")
_SIDECAR_SCOPE = "dapr-diagnostics"  # the tracer's name in daprd, pkg/diagnostics/tracing.go


class _Tag(msgspec.Struct):
    key: str
    value: Any = None


class _Reference(msgspec.Struct, rename={"kind": "refType", "trace_id": "traceID", "span_id": "spanID"}):
    kind: str
    trace_id: str
    span_id: str


class _Process(msgspec.Struct, rename={"service": "serviceName"}):
    service: str
    tags: list[_Tag] | None = None


class _RawSpan(
    msgspec.Struct,
    rename={
        "span_id": "spanID",
        "operation": "operationName",
        "start_us": "startTime",
        "duration_us": "duration",
        "process": "processID",
    },
):
    span_id: str
    operation: str
    start_us: int
    duration_us: int
    process: str = ""
    references: list[_Reference] | None = None
    tags: list[_Tag] | None = None


class _RawTrace(msgspec.Struct, rename={"trace_id": "traceID"}):
    trace_id: str
    spans: list[_RawSpan]
    processes: dict[str, _Process] = {}


class _Answer(msgspec.Struct):
    data: list[_RawTrace] | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """One timed operation. `links` are (trace id, span id) pairs of FOLLOWS_FROM references."""

    trace_id: str
    span_id: str
    parent_id: str | None
    service: str
    instance: str
    operation: str
    kind: str
    start_us: int
    duration_us: int
    error: bool
    sidecar: bool
    links: tuple[tuple[str, str], ...]
    tags: dict[str, str]


def parse(body: bytes) -> dict[str, list[Span]]:
    """Spans by trace id from an answer of Jaeger's query API; ValueError when it is not such an answer."""
    try:
        answer = msgspec.json.decode(body, type=_Answer)
    except (msgspec.DecodeError, msgspec.ValidationError) as why:
        raise ValueError(f"not an answer of Jaeger's query API: {why}") from why
    return {raw.trace_id: _spans(raw) for raw in answer.data or () if raw.spans}


def _spans(raw: _RawTrace) -> list[Span]:
    unknown = _Process("unknown")
    return [_span(raw.trace_id, one, raw.processes.get(one.process, unknown)) for one in raw.spans]


def _span(trace_id: str, raw: _RawSpan, process: _Process) -> Span:
    tags = {tag.key: str(tag.value) for tag in raw.tags or ()}
    about = {tag.key: str(tag.value) for tag in process.tags or ()}
    references = raw.references or ()
    parent = next(
        (ref.span_id for ref in references if ref.kind == "CHILD_OF" and ref.trace_id == trace_id), None
    )
    scope = tags.get("otel.scope.name") or tags.get("otel.library.name") or ""
    shown = {
        _plain(key): _plain(value) for key, value in sorted(tags.items()) if not key.startswith(_HIDDEN_TAGS)
    }
    return Span(
        trace_id=trace_id,
        span_id=raw.span_id,
        parent_id=parent,
        service=_plain(process.service),
        instance=_plain(about.get("service.instance.id") or about.get("host.name") or ""),
        operation=_plain(raw.operation),
        kind=_plain(tags.get("span.kind", "internal")),
        start_us=raw.start_us,
        duration_us=max(0, raw.duration_us),
        error=tags.get("error") in ("True", "true") or tags.get("otel.status_code") == "ERROR",
        sidecar=scope == _SIDECAR_SCOPE or any(key.startswith("dapr.") for key in tags),
        links=tuple((ref.trace_id, ref.span_id) for ref in references if ref.kind == "FOLLOWS_FROM"),
        tags=dict(list(shown.items())[:_MAX_TAGS]),
    )


def _plain(text: str) -> str:
    """Bounded, and without what a terminal would obey."""
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text[:_MAX_CHARS]
    )
