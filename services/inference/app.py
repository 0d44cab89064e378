"""The inference service: `POST /v1/infer`, token ids to answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from fastapi import FastAPI
from opentelemetry.trace import Span, SpanKind, Tracer

from services.common import telemetry
from services.common.app import create_app
from services.common.asgi import Receive, Scope, Send, header_text, read_body, send_json
from services.common.catalog import CatalogError, read_card
from services.common.dapr import Dapr
from services.common.decode import decode
from services.common.openapi import describe
from services.common.problems import Problem
from services.contracts.messages import (
    InferItem,
    InferOutcome,
    InferReply,
    InferRequest,
    InferRequestRaw,
)
from services.inference.batching import ITEMS, Batcher
from services.inference.model import Model, Query
from services.inference.registry import keep_registered
from services.inference.settings import Settings

MAX_TOP_K = 10

_requests = msgspec.json.Decoder(InferRequest)
_raw_requests = msgspec.json.Decoder(InferRequestRaw)
_items = msgspec.json.Decoder(InferItem)
_encoder = msgspec.json.Encoder()


class Inference:
    """The route of the service, over the model it was given."""

    def __init__(self, settings: Settings, model: Model, tracer: Tracer) -> None:
        self._settings = settings
        self._model = model
        self._tracer = tracer
        self.batcher = Batcher(
            model.run,
            max_batch=model.max_batch,
            queue_items=settings.queue_items,
            observe=self._observe,
        )

    async def infer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer `POST /v1/infer`; a plain ASGI route."""
        body = await read_body(receive, self._settings.max_body_bytes)
        card = self._model.card
        span = telemetry.begin(
            self._tracer, "infer", header_text(scope, b"traceparent"), kind=SpanKind.SERVER
        )
        try:
            model, tier, items = self._read(body)
            if model != card.model or tier != card.tier:
                raise Problem(
                    404,
                    "unknown-model",
                    "Unknown model",
                    f"model '{model}.{tier}' is not served by {self._settings.instance} ({card.key})",
                    known=[card.key],
                )
            outcomes = await self._outcomes(items, span)
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

    def _read(self, body: bytes) -> tuple[str, str, list[InferItem | InferOutcome]]:
        """Return model, tier and items; what is no item stands there as the 400 it gets."""
        items: list[InferItem | InferOutcome]
        try:
            request = decode(_requests, body)
        except Problem:
            raw = decode(_raw_requests, body)
            model, tier = raw.model, raw.tier
            items = [_read_item(item) for item in raw.items]
        else:
            model, tier = request.model, request.tier
            items = list(request.items)
        if len(items) > self._settings.max_items:
            detail = f"items: {len(items)} in one call, at most {self._settings.max_items} are taken"
            raise Problem(400, "out-of-range", "Out of range", detail, field="items")
        return model, tier, items

    async def _outcomes(self, items: list[InferItem | InferOutcome], span: Span | None) -> list[InferOutcome]:
        outcomes: list[InferOutcome | None] = []
        queries: list[Query] = []
        deadlines_s: list[float] = []
        for item in items:
            outcome = item if isinstance(item, InferOutcome) else self._refusal(item)
            outcomes.append(outcome)
            if outcome is None and isinstance(item, InferItem):
                queries.append(Query(item.ids, item.top_k))
                deadlines_s.append(item.deadline_ms / 1e3)
        refused = len(items) - len(queries)
        if refused:
            ITEMS.labels("refused").inc(refused)
        ran = iter(await self.batcher.submit(queries, deadlines_s, span) if queries else ())
        return [next(ran) if outcome is None else outcome for outcome in outcomes]

    def _refusal(self, item: InferItem) -> InferOutcome | None:
        if not 1 <= item.top_k <= MAX_TOP_K:
            why: str | None = f"top_k is {item.top_k}; it must be 1..{MAX_TOP_K}"
        else:
            why = self._model.refuse(item.ids)
        return None if why is None else InferOutcome(400, reason="refused", detail=why)

    def _observe(self, note: Any, of_parcel: int, of_run: int, start_ns: int, end_ns: int) -> None:
        """Make the span of one run, under the span of a call that took part in it."""
        card = self._model.card
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
                "queue.left": self.batcher.queued,
            },
            start_ns=start_ns,
        )
        if run is not None:
            run.end(end_ns)


def _read_item(raw: msgspec.Raw) -> InferItem | InferOutcome:
    try:
        return decode(_items, bytes(raw))
    except Problem as problem:
        return InferOutcome(400, reason=problem.slug, detail=problem.detail)


def create(settings: Settings) -> FastAPI:
    """Return the service's app; raises `CatalogError` when the catalog entry cannot be used."""
    tracer = telemetry.setup(settings)
    folder = settings.catalog / settings.model / settings.tier
    if not folder.is_dir():
        known = sorted(path.parent.name for path in (settings.catalog / settings.model).glob("*/card.json"))
        raise CatalogError(
            f"model '{settings.model}.{settings.tier}' is not in the catalog {settings.catalog}; tiers of "
            f"{settings.model!r} there: {', '.join(known) or 'none'}; set FOREMESH_MODEL, FOREMESH_TIER or "
            "FOREMESH_CATALOG"
        )
    model = Model(read_card(folder), max_batch=settings.max_batch, threads=settings.threads)
    service = Inference(settings, model, tracer)
    dapr = Dapr(settings, connections=2)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.batcher.start()
        await dapr.start()
        registering = None
        if settings.dapr_http_port:
            registering = asyncio.create_task(
                keep_registered(
                    dapr,
                    model.card,
                    settings.instance,
                    every_s=settings.registry_every_s,
                    attempts=settings.registry_attempts,
                )
            )
        yield
        if registering is not None:
            registering.cancel()
        service.batcher.close()
        await dapr.close()
        telemetry.flush()

    app = create_app(
        settings,
        title="Foremesh inference",
        lifespan=lifespan,
        ready=lambda: service.batcher.alive,
        hot={"/v1/infer": service.infer},
    )

    describe(app, "/v1/infer", "Classify token ids", request="infer-request", response="infer-response")

    @app.get("/v1/models")
    async def models() -> dict[str, list[dict[str, Any]]]:
        return {"models": [model.card.summary()]}

    return app
