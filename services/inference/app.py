"""The inference service: `POST /v1/infer`, token ids to answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import msgspec
from fastapi import FastAPI
from msgspec import UNSET
from opentelemetry.trace import SpanKind, Tracer

from services.common import telemetry
from services.common.app import create_app
from services.common.asgi import Receive, Scope, Send, header_text, read_body, send_json
from services.common.catalog import Card
from services.common.dapr import Dapr
from services.common.decode import decode
from services.common.memory import forget_start
from services.common.openapi import describe
from services.common.problems import Problem
from services.contracts.messages import (
    InferItem,
    InferOutcome,
    InferReply,
    InferRequest,
    InferRequestRaw,
)
from services.inference.batching import Batcher
from services.inference.embed import Embed
from services.inference.model import Model, Query
from services.inference.registry import keep_registered
from services.inference.repository import Held, Repository
from services.inference.settings import Settings

MAX_TOP_K = 10

_requests = msgspec.json.Decoder(InferRequest)
_raw_requests = msgspec.json.Decoder(InferRequestRaw)
_items = msgspec.json.Decoder(InferItem)
_encoder = msgspec.json.Encoder()


class Inference:
    """The route of the service, over the models of its catalog."""

    def __init__(self, settings: Settings, tracer: Tracer) -> None:
        self._settings = settings
        self._tracer = tracer
        tiers = [settings.tier, *filter(None, settings.tiers.split(","))]
        self.repository = Repository(
            settings.catalog,
            self._make,
            pinned=[f"{settings.model}.{tier}" for tier in dict.fromkeys(tiers)],
            memory_mb=settings.memory_mb,
            idle_s=settings.idle_s,
        )
        self.embed = Embed(settings, tracer, self._take, self.repository.leave)

    async def infer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer `POST /v1/infer`; a plain ASGI route."""
        body = await read_body(receive, self._settings.max_body_bytes)
        span = telemetry.begin(
            self._tracer, "infer", header_text(scope, b"traceparent"), kind=SpanKind.SERVER
        )
        try:
            model, tier, tokenizer, items = self._read(body)
            held = await self._take(f"{model}.{tier}", tokenizer)
            try:
                queries = [item if isinstance(item, InferOutcome) else _query(item) for item in items]
                deadlines_s = [
                    0.0 if isinstance(item, InferOutcome) else item.deadline_ms / 1e3 for item in items
                ]
                outcomes = await held.answer(queries, deadlines_s, span)
            finally:
                self.repository.leave(held)
            card = held.card
            if span is not None:
                span.set_attributes(
                    {
                        "batch.size": len(items),
                        "batch.answered": sum(outcome.status == 200 for outcome in outcomes),
                        "model": card.model,
                        "tier": card.tier,
                        "version": card.version,
                        "replica": self._settings.instance,
                    }
                )
            reply = InferReply(card.model, card.tier, card.version, self._settings.instance, outcomes)
            await send_json(send, _encoder.encode(reply))
        finally:
            if span is not None:
                span.end()

    async def _take(self, key: str, tokenizer: str | None) -> Held:
        """Return the model for a call with ids of `tokenizer`. Raises the 409 `Problem` tokenizer-changed where it
        reads others: they would be other words."""
        held = await self.repository.take(key)
        if tokenizer is None or tokenizer == held.card.tokenizer:
            return held
        self.repository.leave(held)
        await self.repository.look()  # tokenization may have seen a new version first
        held = await self.repository.take(key)
        if tokenizer == held.card.tokenizer:
            return held
        self.repository.leave(held)
        raise Problem(
            409,
            "tokenizer-changed",
            "Tokenizer changed",
            f"the ids are of the tokenizer {tokenizer[:16]!r}, {key} version {held.card.version} reads those of "
            f"{held.card.tokenizer!r}; tokenize again",
            tokenizer=held.card.tokenizer,
        )

    def _read(self, body: bytes) -> tuple[str, str, str | None, list[InferItem | InferOutcome]]:
        """Return model, tier, tokenizer and items; what is no item stands there as the 400 it gets."""
        items: list[InferItem | InferOutcome]
        try:
            request = decode(_requests, body)
        except Problem:
            raw = decode(_raw_requests, body)
            model, tier, tokenizer = raw.model, raw.tier, raw.tokenizer
            items = [_read_item(item) for item in raw.items]
        else:
            model, tier, tokenizer = request.model, request.tier, request.tokenizer
            items = list(request.items)
        if len(items) > self._settings.max_items:
            detail = f"items: {len(items)} in one call, at most {self._settings.max_items} are taken"
            raise Problem(400, "out-of-range", "Out of range", detail, field="items")
        return model, tier, tokenizer, items

    def _make(self, card: Card) -> Held:
        settings = self._settings
        model = Model(card, max_batch=settings.max_batch, threads=settings.threads)
        batcher = Batcher(
            model.run,
            max_batch=model.max_batch,
            queue_items=settings.queue_items,
            queue_s=settings.queue_s,
            brief=model.brief,
            observe=partial(self._observe, card),
        )
        return Held(model, batcher)

    def _observe(
        self, card: Card, note: Any, of_parcel: int, of_run: int, start_ns: int, end_ns: int
    ) -> None:
        """Make the span of one run, under the span of a call that took part in it."""
        run = telemetry.begin(
            self._tracer,
            "run",
            telemetry.traceparent_of(note),
            attributes={
                "batch.size": of_run,
                "batch.of_call": of_parcel,
                "model": card.model,
                "tier": card.tier,
                "version": card.version,
                "replica": self._settings.instance,
                "queue.left": self.repository.queued,
            },
            start_ns=start_ns,
        )
        if run is not None:
            run.end(end_ns)


def _query(item: InferItem) -> Query | InferOutcome:
    """What the model is asked, or the 400 of an item that asks for too many runners-up."""
    if 1 <= item.top_k <= MAX_TOP_K:
        continues = None if item.continues is UNSET else item.continues
        return Query(item.ids, item.top_k, continues=continues)
    why = f"top_k is {item.top_k}; it must be 1..{MAX_TOP_K}"
    return InferOutcome(400, reason="refused", detail=why)


def _read_item(raw: msgspec.Raw) -> InferItem | InferOutcome:
    try:
        return decode(_items, bytes(raw))
    except Problem as problem:
        return InferOutcome(400, reason=problem.slug, detail=problem.detail)


def create(settings: Settings) -> FastAPI:
    """Return the service's app; raises `CatalogError` when the catalog entry cannot be used."""
    tracer = telemetry.setup(settings)
    service = Inference(settings, tracer)
    repository = service.repository
    repository.preload()
    forget_start()
    dapr = Dapr(settings, connections=2)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        repository.start()
        await dapr.start()
        tasks = [asyncio.create_task(repository.watch(settings.catalog_every_s))]
        if settings.dapr_http_port:
            registering = keep_registered(
                dapr,
                lambda: [held.card for held in repository.held.values()],
                settings.instance,
                every_s=settings.registry_every_s,
                attempts=settings.registry_attempts,
            )
            tasks.append(asyncio.create_task(registering))
        yield
        for task in tasks:
            task.cancel()
        await repository.close()
        await dapr.close()
        telemetry.flush()

    app = create_app(
        settings,
        title="Foremesh inference",
        lifespan=lifespan,
        ready=lambda: repository.ready,
        hot={"/v1/infer": service.infer, "/v1/embed": service.embed},
    )

    describe(app, "/v1/infer", "Classify token ids", request="infer-request", responses=("infer-response",))

    describe(
        app,
        "/v1/embed",
        "Turn token ids into vectors",
        request="embed-request",
        responses=("embed-response",),
    )

    @app.get("/v1/models")
    async def models() -> dict[str, list[dict[str, Any]]]:
        return {
            "models": [
                card.summary() | {"loaded": key in repository.held} for key, card in repository.cards.items()
            ]
        }

    return app
