"""How one request's fate is told to its user."""

from __future__ import annotations

import math

import msgspec
from opentelemetry.trace import Span, Status, StatusCode

from services.common import telemetry
from services.common.asgi import Send, send_json
from services.common.problems import MEDIA_TYPE, Problem
from services.contracts.messages import IntentsOutcome

_encoder = msgspec.json.Encoder()


def refused(problem: Problem, traceparent: str | None) -> IntentsOutcome:
    """Return the outcome for `problem`."""
    document = problem.document()
    trace_id = telemetry.trace_id(traceparent)
    if trace_id is not None:
        document["trace_id"] = trace_id
    return IntentsOutcome(problem.status, document, problem.retry_after_s)


def end_span(span: Span, told: object) -> None:
    """End the span of a request with its status; `told` is the problem that it met, or anything else."""
    status = told.status if isinstance(told, Problem) else 200
    span.set_attribute("http.response.status_code", status)
    if isinstance(told, Problem):
        span.set_attribute("problem", told.slug)
        if status >= 500:
            span.set_status(Status(StatusCode.ERROR, told.detail[:200]))
    span.end()


async def send_outcome(send: Send, outcome: IntentsOutcome) -> None:
    """Send one outcome as an HTTP answer of its own."""
    body = _encoder.encode(outcome.body)
    if outcome.status == 200:
        await send_json(send, body)
        return
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    if outcome.retry_after_s is not None:
        headers.append((b"retry-after", str(max(1, math.ceil(outcome.retry_after_s))).encode()))
    await send({"type": "http.response.start", "status": outcome.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def milliseconds(seconds: float) -> float:
    """Return `seconds` in milliseconds, to the microsecond."""
    return round(seconds * 1e3, 3)
