"""The two hops of an answer: text to ids (tokenization), ids to an answer (inference), each coalesced.

What fails comes back as an exception in the item's place: `Unreachable` when a service could not be asked,
`Problem` when it answered with a refusal.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, UnsetType
from opentelemetry.trace import Span, Tracer
from prometheus_client import Counter, Histogram

from services.common.catalog import Card
from services.common.coalesce import Coalescer
from services.common.dapr import Dapr, DaprUnavailable
from services.common.logs import logger
from services.common.problems import Problem, overloaded
from services.common.slots import continues
from services.contracts.messages import (
    EmbedReply,
    EmbedRequest,
    InferItem,
    InferOutcome,
    InferReply,
    InferRequest,
    TokenizeReply,
    TokenizeRequest,
)
from services.routing.choice import Latency
from services.routing.settings import Settings
from services.routing.spans import shared_call

TOKENIZATION = "tokenization"
INFERENCE = "inference"
SEEN_WITHIN_S = 5.0
LOG_EVERY_S = 5.0

CALLS = Counter("foremesh_routing_calls", "Calls to the next service.", ["app", "outcome"])
BATCH = Histogram("foremesh_routing_call_items", "Items per call.", ["app"], buckets=(1, 2, 4, 8, 16, 32, 64))

_encoder = msgspec.json.Encoder()
_tokenized = msgspec.json.Decoder(TokenizeReply)
_embedded = msgspec.json.Decoder(EmbedReply)
_inferred = msgspec.json.Decoder(InferReply)


class _Changed(msgspec.Struct):
    tokenizer: str


class _Refused(msgspec.Struct):
    detail: str = ""


_changed = msgspec.json.Decoder(_Changed)
_refused = msgspec.json.Decoder(_Refused)

log = logger("foremesh.routing")

R = TypeVar("R")


class Unreachable(Exception):
    """The service `app` could not be asked; `why` is for the log."""

    def __init__(self, app: str, why: str) -> None:
        super().__init__(f"{app} cannot be reached: {why}")
        self.app = app
        self.why = why


class Stale(Exception):
    """The ids are of another tokenizer than the model's, which is `tokenizer`: a new version is just coming in."""

    def __init__(self, tokenizer: str) -> None:
        super().__init__(f"the model reads ids of the tokenizer {tokenizer}")
        self.tokenizer = tokenizer


class Text(NamedTuple):
    """A text on its way to tokenization; `deadline` is in `time.perf_counter` seconds. tokenizer: the one that is
    wanted, where it is known."""

    text: str
    deadline: float
    traceparent: str | None
    span: Span | None
    tokenizer: str | None = None


class Tokens(NamedTuple):
    """A text's token ids, and whose they are; where slots are wanted, where the tokens are in the text and how they
    make words."""

    ids: list[int]
    tokenizer: str
    offsets: list[tuple[int, int]] | None = None
    continues: list[int] | UnsetType = UNSET


class Ids(NamedTuple):
    """Token ids on their way to inference."""

    tokens: Tokens
    top_k: int
    deadline: float
    traceparent: str | None
    span: Span | None


class Inferred(NamedTuple):
    """One answer of inference, with who gave it."""

    outcome: InferOutcome
    version: str
    replica: str


class Reach(msgspec.Struct):
    """How the last call to a service went; times are epoch seconds."""

    answered_at: float | None = None
    failed_at: float | None = None
    logged_at: float = 0.0


class Hops:
    """The hops of one catalog entry."""

    def __init__(
        self, card: Card, dapr: Dapr, settings: Settings, tracer: Tracer, reach: dict[str, Reach]
    ) -> None:
        self._card = card
        self._marks_slots = bool(card.facts.get("tags"))
        self._dapr = dapr
        self._timeout_s = settings.call_timeout_s
        self._replica = settings.instance
        self._tracer = tracer
        self._reach = reach
        self.tokenize: Coalescer[Text, Tokens] = Coalescer(
            self._tokenize,
            max_batch=settings.max_batch,
            max_in_flight=settings.tokenization_calls,
            max_queue=settings.queue_items,
        )
        self.infer: Coalescer[Ids, Inferred | Exception] = Coalescer(
            self._infer,
            max_batch=settings.max_batch,
            max_in_flight=settings.inference_calls,
            max_queue=settings.queue_items,
            workers=self._replicas_at_work,
        )
        self._seen: dict[str, float] = {}
        self.latency = Latency()
        self.tokenize_latency = Latency()

    @property
    def model(self) -> str:
        """Name of the model."""
        return self._card.model

    async def close(self) -> None:
        """Wait for the calls that are out."""
        await self.tokenize.close()
        await self.infer.close()

    async def _tokenize(self, texts: list[Text]) -> list[Tokens]:
        wanted = next((text.tokenizer for text in texts if text.tokenizer), None)
        request = TokenizeRequest(
            self._card.model, [text.text for text in texts], self._card.tier, wanted, self._marks_slots
        )
        began = time.perf_counter()
        body = await self._ask(TOKENIZATION, "v1/tokenize", _encoder.encode(request), texts)
        self.tokenize_latency.add((time.perf_counter() - began) * 1e3)
        reply = self._read(TOKENIZATION, _tokenized, body)
        if len(reply.ids) != len(texts):
            raise self._failed(TOKENIZATION, f"it answered {len(reply.ids)} of {len(texts)} texts")
        if not self._marks_slots:
            return [Tokens(ids, reply.tokenizer) for ids in reply.ids]
        offsets = reply.offsets or []
        if [*map(len, offsets)] != [*map(len, reply.ids)]:
            raise self._failed(TOKENIZATION, "it did not tell where each token is in its text")
        if any(end > len(text.text) for text, of in zip(texts, offsets, strict=True) for _, end in of):
            raise self._failed(TOKENIZATION, "it told of tokens behind the end of their text")
        return [
            Tokens(ids, reply.tokenizer, of, continues(of, text.text))
            for text, ids, of in zip(texts, reply.ids, offsets, strict=True)
        ]

    async def _infer(self, items: list[Ids]) -> list[Inferred | Exception]:
        tokenizers = {item.tokens.tokenizer for item in items}
        if len(tokenizers) > 1:
            return await self._infer_apart(items)
        now = time.perf_counter()
        asked = [
            InferItem(
                item.tokens.ids,
                item.top_k,
                round((item.deadline - now) * 1e3, 1),
                item.tokens.continues,
            )
            for item in items
        ]
        request = InferRequest(self._card.model, self._card.tier, asked, tokenizers.pop())
        body = await self._ask(INFERENCE, "v1/infer", _encoder.encode(request), items)
        reply = self._read(INFERENCE, _inferred, body)
        if len(reply.items) != len(items):
            raise self._failed(INFERENCE, f"it answered {len(reply.items)} of {len(items)} items")
        for item, outcome in zip(items, reply.items, strict=True):
            if any(not 0 <= mark.first <= mark.last < len(item.tokens.ids) for mark in outcome.marks or ()):
                raise self._failed(INFERENCE, "it marked slots that are not in the text")
        self._seen[reply.replica] = time.monotonic()
        self.latency.add((time.perf_counter() - now) * 1e3)
        return [Inferred(outcome, reply.version, reply.replica) for outcome in reply.items]

    async def _infer_apart(self, items: list[Ids]) -> list[Inferred | Exception]:
        """A call for each tokenizer: while a new version comes in there are ids of two."""
        found: dict[int, Inferred | Exception] = {}
        for tokenizer in sorted({item.tokens.tokenizer for item in items}):
            places = [at for at, item in enumerate(items) if item.tokens.tokenizer == tokenizer]
            answers: list[Inferred | Exception]
            try:
                answers = await self._infer([items[at] for at in places])
            except Exception as error:  # it is those items' result
                answers = [error] * len(places)
            found |= zip(places, answers, strict=True)
        return [found[at] for at in range(len(items))]

    async def embed(self, request: EmbedRequest, deadline: float, traceparent: str | None) -> EmbedReply:
        """The vectors of token ids, in a call of their own. Raises `Unreachable`, `Stale` or a `Problem`, which may be
        inference's own 400, for the ids may be the user's."""
        item = Ids(Tokens([], ""), 1, deadline, traceparent, None)
        body = await self._ask(INFERENCE, "v1/embed", _encoder.encode(request), [item], of_user=True)
        reply = self._read(INFERENCE, _embedded, body)
        if request.central is UNSET and len(reply.vectors) != len(request.items):
            raise self._failed(INFERENCE, f"it answered {len(reply.vectors)} of {len(request.items)} items")
        return reply

    def _replicas_at_work(self) -> int:
        """How many replicas of inference have answered lately: Dapr picks one for each call and tells nobody how
        many there are."""
        since = time.monotonic() - SEEN_WITHIN_S
        self._seen = {replica: at for replica, at in self._seen.items() if at > since}
        return max(1, len(self._seen))

    async def _ask(
        self, app: str, method: str, body: bytes, items: Sequence[Text | Ids], *, of_user: bool = False
    ) -> bytes:
        """The body of the answer. of_user: what is sent came from a user, who is told of a 400."""
        left_s = max(item.deadline for item in items) - time.perf_counter()
        BATCH.labels(app).observe(len(items))
        with shared_call(
            self._tracer,
            app,
            [item.span for item in items if item.span is not None],
            items[0].traceparent,
            {
                "batch.size": len(items),
                "model": self._card.model,
                "tier": self._card.tier,
                "replica": self._replica,
            },
        ) as traceparent:
            try:
                reply = await self._dapr.invoke(
                    app,
                    method,
                    body,
                    timeout_s=min(self._timeout_s, left_s),
                    headers={"traceparent": traceparent},
                )
            except DaprUnavailable as error:
                raise self._failed(app, error.why) from error
            if reply.status == 503 and b'/problems/overloaded"' in reply.body:
                CALLS.labels(app, "overloaded").inc()
                raise overloaded(f"{app} has no room for more work")
            if reply.status == 409 and b'/problems/tokenizer-changed"' in reply.body:
                CALLS.labels(app, "stale").inc()
                raise Stale(_changed.decode(reply.body).tokenizer)
            if reply.status == 400 and of_user:
                CALLS.labels(app, "refused").inc()
                refused = _refused.decode(reply.body)
                raise Problem(400, "refused-by-model", "Refused by the model", refused.detail)
            if reply.status != 200:
                said = reply.body[:200].decode("utf-8", "replace")
                raise self._failed(app, f"status {reply.status}: {said}")
        return reply.body

    def _read(self, app: str, decoder: msgspec.json.Decoder[R], body: bytes) -> R:
        try:
            reply = decoder.decode(body)
        except ValueError as error:
            raise self._failed(app, f"its answer cannot be read: {error}") from error
        CALLS.labels(app, "answered").inc()
        self._reach[app].answered_at = time.time()
        return reply

    def _failed(self, app: str, why: str) -> Unreachable:
        CALLS.labels(app, "failed").inc()
        reach = self._reach[app]
        now = time.time()
        if reach.failed_at is None or now - reach.logged_at > LOG_EVERY_S:
            log.warning("service cannot be reached", extra={"app": app, "why": why})
            reach.logged_at = now
        reach.failed_at = now
        return Unreachable(app, why)


def refusal(app: str, outcome: InferOutcome) -> Problem:
    """Return the problem for an item that inference did not answer."""
    if outcome.status == 503:
        return overloaded(f"the queue of {app} is full", outcome.retry_after_s or 1.0)
    if outcome.status == 504:
        return Problem(
            504,
            "deadline-exceeded",
            "Deadline exceeded",
            f"the latency budget ran out in the queue of {app}",
        )
    return Problem(
        500,
        "refused-by-model",
        "Refused by the model",
        f"{app} could not run the model on this text: {outcome.detail or outcome.reason}",
    )
