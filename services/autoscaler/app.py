"""The autoscaler as a service: events in, decisions out, and two routes to look at it and to switch the
policy.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response

from services.autoscaler.actuators.local import LocalActuator
from services.autoscaler.loop import ScalingLoop
from services.autoscaler.outbox import Outbox
from services.autoscaler.policies import CHOICES, policy_from
from services.autoscaler.senses import Senses
from services.autoscaler.settings import Settings
from services.common import problems, telemetry
from services.common.app import create_app
from services.common.dapr import Dapr
from services.common.events import subscribe
from services.common.problems import Problem


def create(settings: Settings) -> FastAPI:
    """The app; its loop runs from start-up to shutdown."""
    tracer = telemetry.setup(settings)
    dapr = Dapr(settings, connections=4)
    outbox = Outbox(dapr)
    actuator = LocalActuator(settings.control_socket, settings.actuator_timeout_s)
    senses = Senses(
        capacity_rps=settings.capacity_rps,
        calm_latency_s=settings.calm_latency_s,
        min_replicas=settings.min_replicas,
        max_replicas=settings.max_replicas,
    )
    loop = ScalingLoop(
        settings.target_app,
        policy_from(settings.policy, settings.options),
        settings.options,
        actuator,
        senses,
        outbox,
        tracer,
        guard_s=settings.start_guard_s,
    )

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await dapr.start()
        await actuator.start()
        outbox.start()
        running = asyncio.create_task(loop.run(), name="scaling-loop")
        try:
            yield
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            await outbox.close()
            await actuator.close()
            await dapr.close()
            telemetry.flush()

    # Ready after the first tick, and not only after the first good one: the supervisor may be waiting for us.
    app = create_app(settings, title="Foremesh autoscaler", lifespan=lifespan, ready=lambda: loop.ticks > 0)

    async def on_traffic(data: dict[str, Any]) -> None:
        senses.traffic.hear(data)

    async def on_forecast(data: dict[str, Any]) -> None:
        senses.hear_forecast(data, time.time())

    subscribe(app, "traffic", on_traffic)
    subscribe(app, "forecasts", on_forecast)

    @app.get("/v1/decisions")
    async def decisions() -> Response:
        """The last decisions, oldest first, as they were published."""
        return _json({"app": loop.app, "policy": loop.policy.name, "decisions": list(outbox.recent)})

    @app.get("/v1/policy")
    async def policy() -> Response:
        """The policy that decides now, and what it may be changed to."""
        return _json({"policy": loop.policy.name, "choices": CHOICES})

    @app.put("/v1/policy")
    async def put_policy(request: Request) -> Response:
        """{"policy": "hpa"}: decide by it from the next tick on."""
        try:
            body = msgspec.json.decode(await request.body())
        except msgspec.DecodeError as error:
            raise problems.bad_json(f"the body is not JSON: {error}") from error
        spec = body.get("policy") if isinstance(body, dict) else None
        if not isinstance(spec, str):
            raise problems.wrong_type("policy", f"policy must be one of {', '.join(CHOICES)}, not {spec!r}")
        before = loop.policy.name
        try:
            after = loop.use(spec)
        except ValueError as error:
            raise Problem(400, "unknown-policy", "Unknown policy", str(error), field="policy") from error
        return _json({"policy": after.name, "previous": before})

    return app


def _json(document: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(document), media_type="application/json")
