"""Answering intents: a list of requests in, one outcome each out, whatever happens to the others."""

from __future__ import annotations

import asyncio
import time
from collections import Counter as Tally
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from msgspec import UNSET, UnsetType
from opentelemetry.trace import Span, SpanKind, Tracer
from prometheus_client import Counter, Histogram

from services.common import problems, telemetry
from services.common.catalog import Card
from services.common.coalesce import QueueFull
from services.common.dapr import Dapr
from services.common.decode import MAX_CHARACTERS
from services.common.logs import logger
from services.common.problems import Problem
from services.common.slots import behind, slots_of
from services.contracts.messages import Answer, IntentsItem, IntentsOutcome, Slot, Timings
from services.routing import context
from services.routing.answers import Answers, Kept
from services.routing.choice import Choice, Pressure, Tier, Wanted, choose
from services.routing.hops import (
    INFERENCE,
    TOKENIZATION,
    Hops,
    Ids,
    Inferred,
    Reach,
    Stale,
    Text,
    Unreachable,
    refusal,
)
from services.routing.outcomes import end_span, milliseconds, refused
from services.routing.requests import Asked, read_request
from services.routing.sessions import Sessions, Turn
from services.routing.settings import Settings
from services.routing.tiers import Tiers

log = logger("foremesh.routing")

REQUESTS = Counter("foremesh_routing_requests", "Requests by the status of their answer.", ["status"])
DEGRADED = Counter("foremesh_routing_degraded", "Answers given from the cache.", ["source"])
SECONDS = Histogram(
    "foremesh_routing_seconds",
    "Time from a request's arrival here to its answer.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)


USUAL = "the preferred tier"
SMALLEST = "the smallest, for the preferred one is not there"
ONLY = "the only tier that a replica holds"
NAMED = "asked for by name"
CACHED = "a recent answer, for the mesh cannot compute one now"


CONTEXT_S = 0.2
"""Seconds that the turns of a session may take to come."""


class TooLate(Exception):
    """The latency budget ran out on the way."""


class Request:
    """A good request on its way; `result` is what the hops made of it, `answer` what its user is told. Times are
    `time.perf_counter` seconds.
    """

    __slots__ = (
        "answer", "asked", "choice", "deadline", "offsets", "result", "span", "tokenized_s", "traceparent",
    )  # fmt: skip

    def __init__(
        self,
        asked: Asked,
        choice: Choice,
        deadline: float,
        traceparent: str | None,
        span: Span | None,
    ) -> None:
        self.asked = asked
        self.choice = choice
        self.deadline = deadline
        self.traceparent = traceparent
        self.span = span
        self.tokenized_s = 0.0
        self.offsets: list[tuple[int, int]] | None = None
        self.result: Inferred | Exception = TooLate()
        self.answer: Answer | Problem = problems.internal()


Read = Request | Problem
"""A request, or why it is none."""


class _Item(NamedTuple):
    """A user's request, its span, and what it asks: one text, or several."""

    traceparent: str | None
    span: Span | None
    content: Read | list[Read]


class Intents:
    """The main job of the mesh, over the hops that do it and the caches that stand in for them."""

    def __init__(
        self,
        settings: Settings,
        tiers: Tiers,
        dapr: Dapr,
        answers: Answers,
        sessions: Sessions,
        tracer: Tracer,
    ) -> None:
        self._settings = settings
        self._tiers = tiers
        self._dapr = dapr
        self._answers = answers
        self._sessions = sessions
        self._tracer = tracer
        self._hops: dict[str, Hops] = {}
        self._pressure: dict[str, Pressure] = {}
        self._shed: set[str] = set()
        self.reach = {TOKENIZATION: Reach(), INFERENCE: Reach()}

    @property
    def queued(self) -> dict[str, int]:
        """Items that wait for a call, per hop."""
        return {
            TOKENIZATION: sum(hops.tokenize.queued for hops in self._hops.values()),
            INFERENCE: sum(hops.infer.queued for hops in self._hops.values()),
        }

    async def close(self) -> None:
        """Wait for the calls that are out."""
        for hops in self._hops.values():
            await hops.close()

    async def answer(self, items: Sequence[IntentsItem]) -> list[IntentsOutcome]:
        """Return one outcome per item, in order: 200 with an `Answer`, else a status with its problem
        document.
        """
        received = time.perf_counter()
        read = [self._read(item, len(items), received) for item in items]
        requests = [
            one
            for it in read
            for one in (it.content if isinstance(it.content, list) else [it.content])
            if isinstance(one, Request)
        ]
        await self._answer(requests, received)
        leaning = [request for request in requests if _leans_back(request)]
        if leaning:
            await self._in_context(leaning, received)
        outcomes = [self._told(it) for it in read]
        seconds = time.perf_counter() - received
        for _ in outcomes:
            SECONDS.observe(seconds)
        for status, count in Tally(outcome.status for outcome in outcomes).items():
            REQUESTS.labels(str(status)).inc(count)
        return outcomes

    def _read(self, item: IntentsItem, of: int, received: float) -> _Item:
        span = telemetry.begin(
            self._tracer,
            "intents",
            item.traceparent,
            kind=SpanKind.SERVER,
            attributes={"batch.size": of, "replica": self._settings.instance},
        )

        def request(asked: Asked | Problem) -> Read:
            if isinstance(asked, Problem):
                return asked
            budget_ms = min(asked.budget_ms or self._settings.latency_budget_ms, item.deadline_ms)
            deadline = received + budget_ms / 1e3
            return Request(asked, self._choose(asked), deadline, item.traceparent, span)

        try:
            asked = read_request(item.body)
            content = [request(one) for one in asked] if isinstance(asked, list) else request(asked)
        except Problem as problem:
            content = problem
        return _Item(item.traceparent, span, content)

    async def _answer(self, requests: Sequence[Request], received: float) -> None:
        """Ask the hops of each tier for its requests, and give every one its answer."""
        by_card: dict[str, tuple[Card, list[Request]]] = {}
        for request in requests:
            card = request.choice.card
            by_card.setdefault(card.key, (card, []))[1].append(request)
        if len(by_card) == 1:
            await self._answer_model(*next(iter(by_card.values())), received)
        elif by_card:
            await asyncio.gather(
                *(self._answer_model(card, of_card, received) for card, of_card in by_card.values())
            )

    async def _in_context(self, requests: Sequence[Request], received: float) -> None:
        """Ask again, with the turn before, what says too little by itself; the better of both answers stays."""
        left_s = max(0.0, min(request.deadline for request in requests) - time.perf_counter())
        turns = await asyncio.gather(
            *(
                self._sessions.turns(request.asked.session_id or "", timeout_s=min(CONTEXT_S, left_s / 4))
                for request in requests
            )
        )
        again: list[tuple[Request, Request, str]] = []
        for request, known in zip(requests, turns, strict=True):
            before = context.ground(known)
            if before is None or len(context.joined(before, request.asked.text)) > MAX_CHARACTERS:
                continue
            asked = msgspec.structs.replace(
                request.asked, text=context.joined(before, request.asked.text), before=0
            )
            both = Request(asked, request.choice, request.deadline, request.traceparent, request.span)
            again.append((request, both, before))
        await self._answer([both for _, both, _ in again], received)
        for request, both, before in again:
            alone, together = request.answer, both.answer
            # What is cached or late is no judgement of the two.
            if isinstance(together, Answer) and isinstance(alone, Answer) and context.better(alone, together):
                together.context = before
                if together.slots is not UNSET:
                    together.slots = context.of_the_later(together.slots, before, request.asked.before)
                request.answer = together

    def _told(self, item: _Item) -> IntentsOutcome:
        """What the user is told, noted in the session and the span."""
        content = item.content
        if isinstance(content, list):
            rows = [self._outcome(one, item.traceparent) for one in content]
            if item.span is not None:
                item.span.set_attributes({"texts": len(rows), "http.response.status_code": 200})
                item.span.end()
            return IntentsOutcome(200, {"items": rows})
        outcome = self._outcome(content, item.traceparent)
        if item.span is not None:
            if isinstance(content, Request) and isinstance(content.answer, Answer):
                item.span.set_attributes(_described(content.answer, content.asked))
            end_span(item.span, content.answer if isinstance(content, Request) else content)
        return outcome

    def _outcome(self, one: Read, traceparent: str | None) -> IntentsOutcome:
        answer = one.answer if isinstance(one, Request) else one
        if isinstance(answer, Problem):
            return refused(answer, traceparent)
        if isinstance(one, Request) and one.asked.session_id is not None:
            turn = Turn(one.asked.text, answer.intent, answer.score, round(time.time(), 6), answer.context)
            self._sessions.note(one.asked.session_id, turn)
        return IntentsOutcome(200, answer)

    def _choose(self, asked: Asked) -> Choice:
        """The tier for a request. Raises a `Problem` for one that is not there."""
        usual, tier = self._tiers.named(asked.model)
        if tier is not None:
            return Choice(self._tiers.cards[f"{usual.model}.{tier}"], NAMED)
        why = USUAL if usual.tier == self._settings.tier else SMALLEST
        ladder = self._tiers.ladder(usual)
        if len(ladder) == 1 and asked.min_accuracy is None:
            return Choice(usual, ONLY if asked.budget_ms is not None else why)
        pressure = self._pressure_of(usual, len(ladder) - 1)
        if asked.budget_ms is None and asked.min_accuracy is None and not pressure:
            return Choice(usual, why)
        now = time.monotonic()
        tiers = []
        for card in ladder:
            hops = self._hops.get(card.key)
            measured_ms = hops.latency.expected_ms if hops is not None and hops.latency.known(now) else None
            accuracy = card.facts.get("accuracy", {})
            test = float(accuracy.get("test", 0.0)) if isinstance(accuracy, dict) else 0.0
            tiers.append(Tier(card, test, measured_ms, float(card.facts.get("p50_ms", 0.0))))
        cut = self._hops.get(usual.key)
        spent_ms = (
            cut.tokenize_latency.expected_ms if cut is not None and cut.tokenize_latency.known(now) else 0.0
        )
        return choose(tiers, usual.tier, Wanted(asked.budget_ms, asked.min_accuracy, spent_ms), pressure)

    def _pressure_of(self, usual: Card, most: int) -> int:
        """Steps down the ladder of a model that its requests go now."""
        if not most:
            return 0
        pressure = self._pressure.setdefault(usual.model, Pressure())
        full = max(
            (
                hops.infer.queued / self._settings.queue_items
                for hops in self._hops.values()
                if hops.model == usual.model
            ),
            default=0.0,
        )
        shed = usual.model in self._shed
        self._shed.discard(usual.model)
        return pressure.see(full, shed, most)

    async def _answer_model(self, card: Card, requests: list[Request], received: float) -> None:
        left_s = max(request.deadline for request in requests) - time.perf_counter()
        try:
            async with asyncio.timeout(left_s):
                await self._through(self.hops_of(card), requests, received)
        except TimeoutError:
            pass  # those without a result are too late
        stored = await self._answers.read(card, self._lost(card, requests))
        for request in requests:
            request.answer = self._answer_of(card, request, received, stored)

    async def _through(self, hops: Hops, requests: list[Request], received: float) -> None:
        await self._hop(hops, requests, received)
        stale = [request for request in requests if isinstance(request.result, Stale)]
        if stale:
            # Once: the words are cut again as the model that is there now reads them.
            await self._hop(hops, stale, received)

    async def _hop(self, hops: Hops, requests: list[Request], received: float) -> None:
        texts = [
            Text(
                one.asked.text,
                one.deadline,
                one.traceparent,
                one.span,
                one.result.tokenizer if isinstance(one.result, Stale) else None,
            )
            for one in requests
        ]
        tokenized = await hops.tokenize.submit_many(texts)
        now = time.perf_counter()
        going: list[Request] = []
        ids: list[Ids] = []
        for request, tokens in zip(requests, tokenized, strict=True):
            request.tokenized_s = now - received
            if isinstance(tokens, Exception):
                request.result = tokens
            elif request.deadline > now:
                request.offsets = tokens.offsets
                going.append(request)
                ids.append(
                    Ids(tokens, request.asked.top_k, request.deadline, request.traceparent, request.span)
                )
        for request, result in zip(going, await hops.infer.submit_many(ids), strict=True):
            request.result = result

    def _lost(self, card: Card, requests: list[Request]) -> list[str]:
        """Return the texts that nobody could be asked about and that this process has no answer for."""
        return [
            request.asked.text
            for request in requests
            if isinstance(request.result, Unreachable)
            and request.deadline > time.perf_counter()
            and self._answers.find(card, request.asked.text) is None
        ]

    def _answer_of(
        self, card: Card, request: Request, received: float, stored: dict[str, Kept]
    ) -> Answer | Problem:
        result = request.result
        if isinstance(result, QueueFull) or (isinstance(result, Inferred) and result.outcome.status == 503):
            self._shed.add(card.model)
        if isinstance(result, Inferred):
            if result.outcome.status == 200:
                return self._answered(card, request, result, received)
            return refusal(INFERENCE, result.outcome)
        if isinstance(result, Unreachable | TooLate | Stale):
            kept = self._answers.find(card, request.asked.text)
            source = "redis" if kept is None else "memory"
            kept = kept or stored.get(request.asked.text)
            if kept is not None:
                DEGRADED.labels(source).inc()
                return self._degraded(card, request, kept, received)
        return self._problem(result, request, received)

    def _problem(self, result: Exception, request: Request, received: float) -> Problem:
        if isinstance(result, Problem):
            return result
        if isinstance(result, QueueFull):
            return problems.overloaded("too many requests wait in routing")
        if isinstance(result, TooLate) or request.deadline <= time.perf_counter():
            budget_ms = round((request.deadline - received) * 1e3)
            return problems.deadline_exceeded(f"the latency budget of {budget_ms} ms ran out")
        if isinstance(result, Stale):
            return problems.unavailable(
                "tokenization and inference have different versions of the model; try again"
            )
        if isinstance(result, Unreachable):
            return problems.unavailable(
                f"{result.app} cannot be reached, and no recent answer is known for this text"
            )
        log.error("request failed", exc_info=result)
        return problems.internal()

    def _answered(self, card: Card, request: Request, result: Inferred, received: float) -> Answer:
        outcome = result.outcome
        assert outcome.intent is not None and outcome.score is not None  # noqa: S101  # status 200 has both
        alternatives = outcome.alternatives or []
        slots: list[Slot] | UnsetType = UNSET
        if request.offsets is not None:
            slots = slots_of(outcome.marks or [], request.offsets, request.asked.text)
        now = time.time()
        self._answers.keep(
            card,
            request.asked.text,
            Kept(outcome.intent, outcome.score, alternatives, result.version, now, outcome.in_scope, slots),
        )
        return Answer(
            outcome.intent,
            outcome.score,
            alternatives,
            outcome.in_scope,
            card.model,
            card.tier,
            result.version,
            request.choice.degraded,
            Timings(
                milliseconds(time.perf_counter() - received),
                milliseconds(request.tokenized_s),
                outcome.queue_ms or 0.0,
                outcome.run_ms or 0.0,
            ),
            telemetry.trace_id(request.traceparent),
            result.replica,
            request.choice.why,
            _as_sent(slots, request.asked),
        )

    def _degraded(self, card: Card, request: Request, kept: Kept, received: float) -> Answer:
        return Answer(
            kept.intent,
            kept.score,
            kept.alternatives[: request.asked.top_k],
            kept.in_scope,
            card.model,
            card.tier,
            kept.version,
            True,
            Timings(milliseconds(time.perf_counter() - received), 0.0, 0.0, 0.0),
            telemetry.trace_id(request.traceparent),
            self._settings.instance,
            CACHED,
            _as_sent(kept.slots, request.asked),
        )

    def hops_of(self, card: Card) -> Hops:
        """The hops of an entry of the catalog."""
        hops = self._hops.get(card.key)
        if hops is None:
            hops = Hops(card, self._dapr, self._settings, self._tracer, self.reach)
            self._hops[card.key] = hops
        return hops


def _as_sent(slots: list[Slot] | UnsetType, asked: Asked) -> list[Slot] | UnsetType:
    """Slots of the text without white space at its ends as those of the text that was sent."""
    return slots if slots is UNSET or not asked.before else behind(slots, asked.before)


def _leans_back(request: Request) -> bool:
    """Whether the turn before may say more of a request than it does itself."""
    answer = request.answer
    return (
        request.asked.session_id is not None
        and isinstance(answer, Answer)
        and context.wanted(answer, request.asked.text)
    )


def _described(answer: Answer, asked: Asked) -> dict[str, str | bool | int]:
    """What a span tells of an answer."""
    return {
        "model": answer.model,
        "tier": answer.tier,
        "version": answer.version,
        "inference.replica": answer.replica,
        "degraded": answer.degraded,
        "tier.reason": answer.reason,
        "text.characters": len(asked.text),
        "in_context": answer.context is not UNSET,
    }
