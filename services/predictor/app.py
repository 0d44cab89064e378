"""The predictor: hears `traffic`, publishes `forecasts`, remembers across restarts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from fastapi import FastAPI, Response

from services.common import events, problems, telemetry
from services.common.app import create_app
from services.common.dapr import Dapr, DaprUnavailable, StateItem
from services.common.logs import logger
from services.predictor import metrics
from services.predictor.forecast import Forecast
from services.predictor.history import History
from services.predictor.live import Live
from services.predictor.seed import read_or_none
from services.predictor.served import served
from services.predictor.settings import Settings

STORE = "scaling"
HISTORY_KEY = "history"
SEASONS_KEY = "seasons"
SEASONS_EVERY = 30
"""Saves of the history from one save of the seasons' memory to the next: it is larger, and slow to change."""
FORECAST_KEY = "forecast.latest"
FORECAST_TTL_S = 3600
RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)

log = logger("foremesh.predictor")


class Traffic(msgspec.Struct):
    """The members of a `traffic` message that are used here."""

    t: float
    arrivals: float
    instance: str

    def __post_init__(self) -> None:
        if not (0.0 <= self.arrivals < 1e9 and 0.0 <= self.t < 1e11):
            raise ValueError(f"arrivals {self.arrivals} at t {self.t} is not a count at a time")
        if not 0 < len(self.instance) <= 200:
            raise ValueError("instance must have 1 to 200 characters")


class Predictor:
    """The service: one loop that forecasts, one that saves, one handler that hears."""

    def __init__(self, settings: Settings) -> None:
        """Load the network; raises BadArtefact when it is not the one of its card."""
        self._settings = settings
        self._dapr = Dapr(settings, connections=8)
        self._live = Live(
            History(settings.history_s, settings.late_s),
            lambda: served(settings.forecaster),
            fine_step_s=settings.fine_step_s,
            step_s=settings.step_s,
            silence_s=settings.silence_s,
            started=time.monotonic(),
        )
        self._silent = True
        self._leader: str | None = None
        self._restored = False
        self._saves = 0
        self._seed: str | None = None
        self._behind: asyncio.Task[bool] | None = None
        self.latest: Forecast | None = None
        self.ready = False

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Run the loops for as long as the app runs; save the history at the end."""
        await self._dapr.start()
        # In the background: the sidecar starts after the app that it waits for.
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(self._forecast_loop()),
            asyncio.create_task(self._history_loop()),
        ]
        self.ready = True
        try:
            yield
        finally:
            self.ready = False
            if self._behind is not None:
                tasks.append(self._behind)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._restored:
                await self._quietly("history", self._save_history())
                await self._quietly("seasons", self._save_seasons())
            await self._dapr.close()

    async def hear(self, data: dict[str, Any]) -> None:
        """Take one message of topic `traffic`; raises ValueError for what is not one."""
        report = msgspec.convert(data, Traffic)
        verdict = self._live.hear(
            report.instance, report.t, report.arrivals, now=time.time(), monotonic=time.monotonic()
        )
        metrics.REPORTS.labels(verdict).inc()

    async def tick(self) -> None:
        """Forecast once and publish it; in silence only say so."""
        monotonic = time.monotonic()
        self._mind_silence(self._live.silent_for(monotonic))
        forecast = self._live.forecast(monotonic)
        if forecast is None:
            return
        self.latest = forecast
        metrics.show(forecast, self._live.champion)
        self._mind_champion()
        # State is written behind the event, and a slow store holds up no forecast.
        if self._behind is None or self._behind.done():
            self._behind = asyncio.create_task(self._quietly("forecast", self._save_forecast(forecast)))
        if await self._quietly("publish", self._dapr.publish("forecasts", forecast.event())):
            metrics.PUBLISHED.inc()

    async def _forecast_loop(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due = max(due + self._settings.pace_s, loop.time())
            await asyncio.sleep(due - loop.time())
            await self._guarded("forecast", self.tick)

    async def _history_loop(self) -> None:
        """Restore first: a save before that would write a young history over an old one."""
        for attempt in range(10**9):
            if await self._quietly("restore", self._restore()):
                break
            await asyncio.sleep(RETRY_S[min(attempt, len(RETRY_S) - 1)])
        self._restored = True
        while True:
            await asyncio.sleep(self._settings.history_save_s)
            await self._guarded("history", self._save)

    async def _restore(self) -> None:
        raw = await self._dapr.get_state(STORE, HISTORY_KEY)
        saved = None if raw is None else _decoded(raw)
        replayed = None if self._settings.history_file is None else read_or_none(self._settings.history_file)
        # A history that was saved with this very file under it goes on from there, after a restart, say.
        if replayed is not None and not (isinstance(saved, dict) and saved.get("seed") == replayed.identity):
            self._live.expect(replayed.counts)
            self._seed = replayed.identity
            log.info("history read from file", extra={"seconds": len(replayed.counts)})
        elif saved is not None:
            self._seed = replayed.identity if replayed is not None else None
            self._put_back(saved)
            raw = await self._dapr.get_state(STORE, SEASONS_KEY)
            if raw is not None and not self._live.usual.restore(
                _decoded(raw), float(self._settings.step_s), time.time()
            ):
                log.warning("saved memory of seasons not used", extra={"why": "another step, or not one"})

    def _put_back(self, saved: Any) -> None:
        try:
            seconds = self._live.history.restore(saved, time.time())
        except ValueError as error:
            log.warning("saved history not used", extra={"why": str(error)})
        else:
            log.info("history restored", extra={"seconds": seconds})

    async def _save(self) -> None:
        await self._quietly("history", self._save_history())
        self._saves += 1
        if self._saves % SEASONS_EVERY == 0:
            await self._quietly("seasons", self._save_seasons())

    async def _save_seasons(self) -> None:
        await self._dapr.save_state(STORE, [StateItem(SEASONS_KEY, self._live.usual.dump())])

    async def _save_history(self) -> None:
        saved = self._live.history.dump() | {"seed": None if self._live.expecting else self._seed}
        if saved["arrivals"]:
            await self._dapr.save_state(STORE, [StateItem(HISTORY_KEY, saved)])

    async def _save_forecast(self, forecast: Forecast) -> None:
        await self._dapr.save_state(STORE, [StateItem(FORECAST_KEY, forecast.event(), ttl_s=FORECAST_TTL_S)])

    def _mind_silence(self, silent_for: float | None) -> None:
        silent = silent_for is not None
        metrics.SILENT.set(silent)
        if silent and not self._silent:
            log.warning(
                "no traffic report, forecasts stop", extra={"silent_for_s": round(silent_for or 0.0, 1)}
            )
        elif not silent and self._silent:
            log.info("traffic reports arrive, forecasts go out")
        self._silent = silent

    def _mind_champion(self) -> None:
        """Say that a forecaster has lost the lead, and on which record."""
        champion = self._live.champion
        if self._leader not in (None, champion.leader):
            metrics.DEMOTIONS.labels(self._leader).inc()
            log.warning(
                f"{self._leader} is demoted, {champion.leader} leads", extra={"why": champion.reason()}
            )
        self._leader = champion.leader

    async def _quietly(self, what: str, call: Awaitable[None]) -> bool:
        """Await a call through the sidecar; False, counted and logged, when it does not get through."""
        try:
            await call
        except DaprUnavailable as error:
            metrics.FAILED.labels(what).inc()
            log.warning("call through Dapr failed", extra={"what": what, "why": str(error)})
            return False
        return True

    async def _guarded(self, what: str, work: Callable[[], Awaitable[None]]) -> None:
        """One bad turn must not end a loop: what is wrong is logged with its traceback and counted."""
        try:
            await work()
        except Exception:
            metrics.FAILED.labels(what).inc()
            log.exception("turn failed", extra={"what": what})


def _decoded(raw: bytes) -> Any:
    """What the store held; None, which no history is, when it is not JSON."""
    try:
        return msgspec.json.decode(raw)
    except msgspec.DecodeError:
        return None


def build(settings: Settings) -> FastAPI:
    """The app: POST /events/traffic, GET /v1/forecast, and what every app has."""
    telemetry.setup(settings)
    predictor = Predictor(settings)
    app = create_app(settings, title="predictor", lifespan=predictor.lifespan, ready=lambda: predictor.ready)
    app.state.predictor = predictor
    events.subscribe(app, "traffic", predictor.hear)

    @app.get("/v1/forecast")
    async def latest() -> Response:
        """The latest forecast, as published; 503 before the first one."""
        if predictor.latest is None:
            raise problems.unavailable(
                "no forecast yet: no gateway has reported any traffic", settings.pace_s
            )
        return Response(msgspec.json.encode(predictor.latest.event()), media_type="application/json")

    return app
