"""The routing service: `POST /v1/intents`, its coalesced form for the gateway, sessions, models and
status.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response

from services.common import telemetry
from services.common.app import create_app
from services.common.asgi import Receive, Scope, Send, header_text, read_body, send_json
from services.common.dapr import Dapr
from services.common.decode import decode
from services.common.openapi import describe
from services.common.problems import Problem, bad_json
from services.contracts.messages import IntentsItem, IntentsReply, IntentsRequest
from services.routing.about import About
from services.routing.answers import Answers
from services.routing.intents import Intents
from services.routing.outcomes import send_outcome
from services.routing.requests import read_session_request
from services.routing.sessions import Session, Sessions
from services.routing.settings import Settings
from services.routing.tiers import Tiers
from services.routing.vectors import Vectors

USER_BODY_BYTES = 64 * 1024

_requests = msgspec.json.Decoder(IntentsRequest)
_encoder = msgspec.json.Encoder()


class Routes:
    """The hot routes, plain ASGI."""

    def __init__(self, settings: Settings, intents: Intents) -> None:
        self._settings = settings
        self._intents = intents

    async def coalesced(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer `POST /internal/intents`: many users' requests, each with its own status."""
        request = decode(_requests, await read_body(receive, self._settings.max_body_bytes))
        if len(request.items) > self._settings.max_items:
            detail = f"items: {len(request.items)} in one call, at most {self._settings.max_items} are taken"
            raise Problem(400, "out-of-range", "Out of range", detail, field="items")
        lead(request.items, header_text(scope, b"traceparent"))
        outcomes = await self._intents.answer(request.items)
        await send_json(send, _encoder.encode(IntentsReply(outcomes)))

    async def single(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer `POST /v1/intents`: one user's request."""
        body = await read_body(receive, USER_BODY_BYTES)
        try:
            text = body.decode()
        except UnicodeDecodeError as error:
            raise bad_json(f"the body is not UTF-8: {error}") from None
        item = IntentsItem(text, math.inf, header_text(scope, b"traceparent"))
        (outcome,) = await self._intents.answer([item])
        await send_outcome(send, outcome)


def lead(items: Sequence[IntentsItem], carrier: str | None) -> None:
    """Hang the item that the call is part of below `carrier`, the call's own `traceparent`.

    The call's way through the sidecars belongs to the trace of one item; without this its spans would end
    there.
    """
    if not telemetry.sampled(carrier):
        return
    of = telemetry.trace_id(carrier)
    for item in items:
        if telemetry.sampled(item.traceparent) and telemetry.trace_id(item.traceparent) == of:
            item.traceparent = carrier
            return


def create(settings: Settings) -> FastAPI:
    """Return the service's app; raises `CatalogError` when the catalog cannot be used."""
    tracer = telemetry.setup(settings)
    tiers = Tiers(settings.catalog, settings.tier)
    dapr = Dapr(settings, connections=64)
    answers = Answers(
        dapr,
        size=settings.answers_kept,
        ttl_s=settings.answers_ttl_s,
        mirrored_per_s=settings.answers_per_s if settings.dapr_http_port else 0,
    )
    sessions = Sessions(dapr, ttl_s=settings.sessions_ttl_s, waiting=settings.sessions_waiting)
    intents = Intents(settings, tiers, dapr, answers, sessions, tracer)
    about = About(dapr, tiers, intents, settings.instance)
    routes = Routes(settings, intents)
    vectors = Vectors(settings, tiers, intents, tracer)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await dapr.start()
        behind = [
            asyncio.create_task(tiers.watch(settings.watch_s)),
            asyncio.create_task(answers.mirror()),
            asyncio.create_task(sessions.write()),
            asyncio.create_task(about.follow(tiers, settings.watch_s)),
        ]
        yield
        for task in behind:
            task.cancel()
        await intents.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2.0):
                await asyncio.gather(sessions.flush(), answers.flush())
        await dapr.close()
        telemetry.flush()

    app = create_app(
        settings,
        title="Foremesh routing",
        lifespan=lifespan,
        ready=lambda: bool(tiers.models),
        hot={
            "/internal/intents": routes.coalesced,
            "/v1/intents": routes.single,
            "/v1/embeddings": vectors.embeddings,
            "/v1/summaries": vectors.summaries,
        },
    )

    describe(
        app,
        "/v1/intents",
        "Tell the intent of a text",
        request="intents-request",
        responses=("intents-response", "intents-coalesced-response"),
    )
    describe(
        app,
        "/internal/intents",
        "Tell the intents of several users' texts",
        request="intents-coalesced-request",
        responses=("intents-coalesced-response",),
    )

    describe(
        app,
        "/v1/embeddings",
        "Turn texts into vectors",
        request="embeddings-request",
        responses=("embeddings-response",),
    )
    describe(
        app,
        "/v1/summaries",
        "Take the sentences at the centre of a text",
        request="summaries-request",
        responses=("summaries-response",),
    )

    @app.post("/v1/sessions", status_code=201)
    async def create_session(request: Request) -> Response:
        session = await sessions.create(read_session_request(await request.body()))
        return _json({"session_id": session.session_id, "created_at": session.created_at}, 201)

    @app.get("/v1/sessions/{session_id}")
    async def get_session(session_id: str) -> Response:
        session: Session = await sessions.get(session_id)
        return _json(session)

    @app.get("/v1/models")
    async def models() -> Response:
        return _json({"models": await about.models()})

    @app.get("/v1/status")
    async def status() -> Response:
        return _json(await about.status())

    return app


def _json(value: Any, status: int = 200) -> Response:
    return Response(_encoder.encode(value), status_code=status, media_type="application/json")
