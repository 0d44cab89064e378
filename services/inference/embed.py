"""`POST /v1/embed`: token ids to sentence vectors, or to the sentences at the centre of them all."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable

import msgspec
import numpy as np
from msgspec import UNSET
from opentelemetry.trace import SpanKind, Tracer

from services.common import telemetry
from services.common.asgi import Receive, Scope, Send, header_text, read_body, send_json
from services.common.central import central
from services.common.decode import decode
from services.common.problems import Problem
from services.contracts.messages import EmbedReply, EmbedRequest, InferOutcome
from services.inference.model import EMBEDDING, Query, Ran
from services.inference.outcomes import problem_of
from services.inference.repository import Held
from services.inference.settings import Settings

Take = Callable[[str, str | None], Awaitable[Held]]
"""A model by key, for a call with ids of that tokenizer; the call ends with `leave`."""

_requests = msgspec.json.Decoder(EmbedRequest)
_encoder = msgspec.json.Encoder()


class Embed:
    """The route, over the models that `take` gives and `leave` takes back."""

    def __init__(self, settings: Settings, tracer: Tracer, take: Take, leave: Callable[[Held], None]) -> None:
        self._settings = settings
        self._tracer = tracer
        self._take = take
        self._leave = leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer all items, or refuse the call for the first that cannot be."""
        body = await read_body(receive, self._settings.max_body_bytes)
        carrier = header_text(scope, b"traceparent")
        span = telemetry.begin(self._tracer, "embed", carrier, kind=SpanKind.SERVER)
        try:
            request = decode(_requests, body)
            if not 1 <= len(request.items) <= self._settings.max_items:
                detail = f"items: {len(request.items)} in one call, 1 to {self._settings.max_items} are taken"
                raise Problem(400, "out-of-range", "Out of range", detail, field="items")
            held = await self._take(f"{request.model}.{request.tier}", request.tokenizer)
            try:
                card = held.card
                if EMBEDDING not in held.model.outputs:
                    raise Problem(
                        400, "no-such-output", "No such output", f"{card.key} does not embed; ask one that does",
                    )  # fmt: skip
                queries = [Query(ids, 1, (EMBEDDING,)) for ids in request.items]
                deadlines_s = [request.deadline_ms / 1e3] * len(queries)
                outcomes = await held.answer(queries, deadlines_s, span)
            finally:
                self._leave(held)
            vectors = []
            for at, outcome in enumerate(outcomes):
                if not isinstance(outcome, Ran) or outcome.tensors is None:
                    raise _problem(outcome, at)
                vectors.append(outcome.tensors[EMBEDDING])
            reply = EmbedReply(card.model, card.tier, card.version, self._settings.instance)
            if request.central is UNSET:
                reply.vectors = [
                    base64.b64encode(vector.astype("<f4").tobytes()).decode() for vector in vectors
                ]
            else:
                reply.central = central(np.stack(vectors), request.central)
            if span is not None:
                span.set_attributes({"batch.size": len(vectors), "model": card.model, "tier": card.tier})
            await send_json(send, _encoder.encode(reply))
        finally:
            if span is not None:
                span.end()


def _problem(outcome: InferOutcome, at: int) -> Problem:
    """The problem of the call; one that is the item's own names it."""
    problem = problem_of(outcome)
    if problem.status != 400:
        return problem
    field = f"items[{at}]"
    return Problem(400, problem.slug, problem.title, f"{field}: {problem.detail}", field=field)
