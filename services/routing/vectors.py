"""`POST /v1/embeddings` and `POST /v1/summaries` in the mesh: texts to ids by tokenization, ids to vectors, or to the
sentences at the centre, by inference.

Not coalesced: a call carries many texts already. Errors are RFC 9457 documents; those of embeddings have OpenAI's
`error` object in them, as its clients expect.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence

import msgspec
from msgspec import UNSET, UnsetType
from opentelemetry.trace import Span, SpanKind, Tracer

from services.common import problems, telemetry
from services.common.asgi import Receive, Scope, Send, header_text, read_body, send_json
from services.common.catalog import Card
from services.common.coalesce import QueueFull
from services.common.decode import decode
from services.common.embeddings import EmbeddingsRequest, dimensions_of, inputs_of, reply_to, with_error
from services.common.problems import Problem
from services.common.summaries import SummaryRequest, split, summary_of
from services.contracts.messages import EmbedReply, EmbedRequest
from services.routing.hops import Hops, Stale, Text, Tokens, Unreachable
from services.routing.intents import Intents
from services.routing.settings import Settings
from services.routing.tiers import Tiers

BODY_BYTES = 1 << 20
MAX_ITEMS = 256
"""Texts or sentences of one call: as many as tokenization and inference take."""

_embeddings = msgspec.json.Decoder(EmbeddingsRequest)
_summaries = msgspec.json.Decoder(SummaryRequest)
_encoder = msgspec.json.Encoder()


class Vectors:
    """Both routes."""

    def __init__(self, settings: Settings, tiers: Tiers, intents: Intents, tracer: Tracer) -> None:
        self._settings = settings
        self._tiers = tiers
        self._intents = intents
        self._tracer = tracer

    async def embeddings(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with a vector for each input, in order."""
        try:
            wanted = decode(_embeddings, await read_body(receive, BODY_BYTES))
            inputs = inputs_of(wanted.input, MAX_ITEMS)
            with self._span(scope, "embeddings") as call:
                card = self._card(wanted.model)
                reply, tokens = await self._ask(call, card, inputs)
                vectors = [base64.b64decode(vector) for vector in reply.vectors]
                dimensions = dimensions_of(wanted, len(vectors[0]) // 4, card.key)
                told = reply_to(wanted, vectors, dimensions, card.key, tokens)
        except Problem as problem:
            raise with_error(problem) from None
        await send_json(send, _encoder.encode(told))

    async def summaries(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the summary, its sentences and where each stands in the text."""
        began = time.perf_counter()
        wanted = decode(_summaries, await read_body(receive, BODY_BYTES))
        found = split(wanted.text, MAX_ITEMS)
        with self._span(scope, "summaries") as call:
            card = self._card(wanted.model)
            reply, _ = await self._ask(call, card, found, wanted.sentences)
            if any(not 0 <= at < len(found) for at in reply.central):
                raise problems.unavailable("inference chose sentences that are not in the text")
        spent_ms = (time.perf_counter() - began) * 1e3
        told = summary_of(found, reply.central, card.model, card.tier, reply.version, spent_ms)
        await send_json(send, _encoder.encode(told))

    def _card(self, name: str) -> Card:
        """The card of the model, its usual tier where none is named; it must embed, or inference refuses."""
        usual, tier = self._tiers.named(name)
        return usual if tier is None else self._tiers.cards[f"{usual.model}.{tier}"]

    async def _ask(
        self,
        call: _Call,
        card: Card,
        inputs: Sequence[str | list[int]],
        central: int | UnsetType = UNSET,
    ) -> tuple[EmbedReply, int]:
        """What inference answers, and how many tokens it read."""
        hops = self._intents.hops_of(card)
        deadline = time.perf_counter() + self._settings.latency_budget_ms / 1e3
        tokenizer: str | None = None
        for attempt in (1, 2):
            tokens = await self._tokens(hops, call, inputs, deadline, tokenizer)
            request = EmbedRequest(
                card.model,
                card.tier,
                [one.ids for one in tokens],
                round((deadline - time.perf_counter()) * 1e3, 1),
                next((one.tokenizer for one in tokens if one.tokenizer), None),
                central,
            )
            try:
                reply = await hops.embed(request, deadline, call.traceparent)
            except Stale as stale:
                # Once: the words are cut again as the model that is there now reads them.
                if attempt == 2:
                    raise problems.unavailable(
                        "tokenization and inference have different versions of the model; try again"
                    ) from None
                tokenizer = stale.tokenizer
            except Unreachable as away:
                raise problems.unavailable(f"{away.app} cannot be reached") from None
            else:
                return reply, sum(len(one.ids) for one in tokens)
        raise AssertionError  # the second attempt returns or raises

    async def _tokens(
        self,
        hops: Hops,
        call: _Call,
        inputs: Sequence[str | list[int]],
        deadline: float,
        tokenizer: str | None,
    ) -> list[Tokens]:
        """Token ids of each input; those that are ids already stay what they are."""
        texts = [
            Text(one, deadline, call.traceparent, call.span, tokenizer)
            for one in inputs
            if isinstance(one, str)
        ]
        cut = iter(await hops.tokenize.submit_many(texts) if texts else ())
        found: list[Tokens] = []
        for one in inputs:
            tokens = next(cut) if isinstance(one, str) else Tokens(one, "")
            if isinstance(tokens, Tokens):
                found.append(tokens)
            elif isinstance(tokens, Problem):
                raise tokens
            elif isinstance(tokens, QueueFull):
                raise problems.overloaded("too many requests wait in routing")
            elif isinstance(tokens, Unreachable):
                raise problems.unavailable(f"{tokens.app} cannot be reached")
            else:
                raise tokens
        return found

    def _span(self, scope: Scope, name: str) -> _Call:
        carrier = header_text(scope, b"traceparent")
        return _Call(telemetry.begin(self._tracer, name, carrier, kind=SpanKind.SERVER), carrier)


class _Call:
    """One request: its span, which ends with it, and the trace that it belongs to."""

    def __init__(self, span: Span | None, carrier: str | None) -> None:
        self.span = span
        self.traceparent = carrier if span is None else telemetry.traceparent_of(span)

    def __enter__(self) -> _Call:
        return self

    def __exit__(self, *_: object) -> None:
        if self.span is not None:
            self.span.end()
