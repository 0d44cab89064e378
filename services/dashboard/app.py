"""The dashboard: events and the supervisor's view go into one feed, and the feed goes to every open page.

Two ASGI apps share the process: `app` for the sidecar (events, health, metrics; token needed) and `public`
for people.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs

import msgspec
from fastapi import FastAPI
from prometheus_client import Counter, Gauge

from services.common import problems
from services.common.app import create_app
from services.common.asgi import Receive, Scope, Send, send_json
from services.common.dapr import Dapr, DaprUnavailable
from services.common.events import subscribe
from services.common.logs import logger
from services.dashboard import events
from services.dashboard.assets import Assets
from services.dashboard.control import Supervisor, SupervisorUnavailable
from services.dashboard.feed import Feed, Ring
from services.dashboard.guard import Guard
from services.dashboard.jaeger import MAX_LISTED, Jaeger, JaegerUnavailable
from services.dashboard.settings import Settings
from services.dashboard.stream import Stream
from services.dashboard.traces import is_trace_id

TRACES = "/api/traces"
MAX_JAEGER_CALLS = 4

log = logger("foremesh.dashboard")
_dropped = Counter("foremesh_dashboard_dropped_total", "Updates dropped because a page read too slowly")
_pages = Gauge("foremesh_dashboard_pages", "Open pages")


class Dashboard:
    """One process of the dashboard; `app` and `public` are what it listens with."""

    def __init__(self, settings: Settings) -> None:
        seconds = int(settings.chart_s)
        self.settings = settings
        self.feed = Feed(
            {
                "traffic": Ring(settings.chart_s, 4 * seconds),  # four gateways, once a second each
                "lead": Ring(settings.chart_s, seconds),
                "replicas": Ring(settings.chart_s, 2 * seconds),
                "decision": Ring(settings.chart_s, 300),  # the only kind with long texts
            },
            max_clients=settings.max_clients,
            client_queue=settings.client_queue,
            on_drop=_dropped.inc,
        )
        _pages.set_function(lambda: len(self.feed.clients))
        self.supervisor = Supervisor(settings.control_socket, scaled_app=settings.scaled_app)
        self.jaeger = Jaeger(settings.jaeger_url)
        self.dapr = Dapr(settings, connections=4)
        self.stream = Stream(self.feed, keep_alive_s=settings.keep_alive_s)
        self.assets = Assets()
        self.public = Guard(self._route, names=settings.public_names, port=settings.public_port)
        self.app: FastAPI = create_app(settings, title="Foremesh dashboard", lifespan=self._lifespan)
        subscribe(self.app, "traffic", self._on_traffic)
        subscribe(self.app, "forecasts", self._on_forecast)
        subscribe(self.app, "decisions", self._on_decision)
        self._lead_s = 0.0
        self._supervised_since = float("inf")
        self._look = asyncio.Event()  # something was scaled: do not wait for the next poll
        self._jaeger_calls = asyncio.Semaphore(MAX_JAEGER_CALLS)

    async def _on_traffic(self, data: dict[str, Any]) -> None:
        second = events.traffic(data)
        self.feed.publish("traffic", second, key=(second.instance, second.t), t=second.t)

    async def _on_forecast(self, data: dict[str, Any]) -> None:
        band = events.forecast(data)
        newest = self.feed.latest.get("forecast")
        if newest is not None and band["issued_at"] <= newest["issued_at"]:
            return
        self.feed.publish("forecast", band)
        point = events.lead(band, self._lead_s)
        self.feed.publish("lead", point, key=band["issued_at"], t=point["t"])

    async def _on_decision(self, data: dict[str, Any]) -> None:
        decided = events.decision(data)
        self._lead_s = decided.observation.start_delay_s or self._lead_s
        if not self.feed.publish("decision", decided, key=(decided.app, decided.t), t=decided.t):
            return
        if decided.t < self._supervised_since:
            self.feed.publish("replicas", events.replicas(decided), key=("decision", decided.t), t=decided.t)
        elif decided.wanted != decided.previous:
            self._look.set()

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        await self.dapr.start()
        tasks = [asyncio.create_task(self._watch_mesh()), asyncio.create_task(self._remember())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(self.dapr.close(), self.supervisor.close(), self.jaeger.close())

    async def _watch_mesh(self) -> None:
        seen: dict[str, Any] = {}
        while True:
            now = time.time()
            try:
                seen = await self.supervisor.mesh()
            except SupervisorUnavailable as why:
                seen = seen | {"reachable": False, "why": str(why)}
            except Exception:
                log.exception("the supervisor's answer cannot be used")
                seen = seen | {"reachable": False, "why": "its answer cannot be used"}
            self.feed.publish("mesh", seen | {"now": time.time()})
            scaled = seen.get("scaled") if seen["reachable"] else None
            if scaled:
                self._supervised_since = min(self._supervised_since, now)
                point = {key: scaled[key] for key in ("wanted", "ready", "starting")} | {"t": now}
                self.feed.publish("replicas", point, key=("supervisor", now), t=now)
            else:
                self._supervised_since = float("inf")
            self._look.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.settings.mesh_poll_s):
                    await self._look.wait()

    async def _remember(self) -> None:
        """After a restart, take the last decisions and the last forecast from where they were written."""
        for attempt in range(5):
            try:
                decided = await self.dapr.get_state("scaling", "decisions.recent")
                forecast = await self.dapr.get_state("scaling", "forecast.latest")
                break
            except DaprUnavailable as why:
                if not self.settings.dapr_http_port:
                    return
                log.info("no history yet", extra={"why": str(why), "attempt": attempt})
                await asyncio.sleep(1 + attempt)
        else:
            return
        try:
            for one in msgspec.json.decode(decided, type=list[dict[str, Any]]) if decided else []:
                await self._on_decision(one)
            if forecast:
                await self._on_forecast(msgspec.json.decode(forecast, type=dict[str, Any]))
        except ValueError as why:
            log.warning("what was written down cannot be read", extra={"why": str(why)})

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path == "/stream":
            await self.stream(scope, receive, send)
        elif path == TRACES:
            await self._traces(scope, send)
        elif path.startswith(TRACES + "/"):
            await self._trace(path.removeprefix(TRACES + "/"), send)
        else:
            await self.assets(scope, receive, send)

    async def _traces(self, scope: Scope, send: Send) -> None:
        given = parse_qs(scope["query_string"].decode("latin-1")).get("limit", ["20"])[-1]
        if not (given.isascii() and given.isdigit() and 1 <= int(given[:9]) <= MAX_LISTED):
            raise problems.wrong_type("limit", f"limit: a whole number from 1 to {MAX_LISTED}")
        async with self._asking_jaeger():
            found = await self.jaeger.recent(int(given))
        await send_json(send, msgspec.json.encode({"traces": found}))

    async def _trace(self, trace_id: str, send: Send) -> None:
        if not is_trace_id(trace_id):
            raise problems.wrong_type("trace_id", "a trace id is 16 to 32 lower-case hexadecimal digits")
        async with self._asking_jaeger():
            found = await self.jaeger.trace(trace_id)
        if found is None:
            raise problems.not_found(f"trace {trace_id} is not known (yet): spans arrive within seconds")
        await send_json(send, msgspec.json.encode(found.document()))

    @contextlib.asynccontextmanager
    async def _asking_jaeger(self) -> AsyncIterator[None]:
        if not self.settings.jaeger_url:
            raise problems.unavailable("this mesh keeps no traces (FOREMESH_JAEGER_URL is not set)")
        if self._jaeger_calls.locked():
            raise problems.overloaded("too many traces are being read at once")
        async with self._jaeger_calls:
            try:
                yield
            except JaegerUnavailable as why:
                raise problems.unavailable(str(why)) from why
