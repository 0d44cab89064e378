"""Observations by the line, and the two neighbours of the service: supervisor's socket and sidecar."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from services.autoscaler.observation import ForecastView, Observation

T0 = 1_700_000_000.0


def seen(at: float, rates: Sequence[int | None], **fields: Any) -> Observation:
    """An observation `at` seconds after T0 whose last seconds brought `rates`; one replica of 100 req/s."""
    known: dict[str, Any] = {
        "wanted": 1,
        "ready": 1,
        "min_replicas": 1,
        "max_replicas": 10,
        "start_delay_s": 3.0,
        "capacity_rps": 100.0,
    }
    return Observation(now=T0 + at, arrivals=tuple(rates), **(known | fields))


def flat(at: float, rate: float, *, spread: float = 0.0) -> ForecastView:
    """A forecast issued `at` seconds after T0: `rate` at the median, `spread` more at q0.9, for 100 s."""
    row = (max(0.0, rate - spread), rate, rate + spread, rate + 2 * spread)
    return ForecastView(T0 + at, 10.0, (10.0, 100.0), (0.1, 0.5, 0.9, 0.99), (row, row))


class Served:
    """Routes of aiohttp in a thread of their own, to be taken down and up again."""

    def __init__(self) -> None:
        self.answer_s = 0.0
        self.broken = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._runner: web.AppRunner | None = None

    def routes(self) -> list[web.RouteDef]:
        raise NotImplementedError

    def site(self, runner: web.AppRunner) -> web.BaseSite:
        raise NotImplementedError

    def up(self) -> None:
        self._call(self._up())

    async def _up(self) -> None:
        application = web.Application(middlewares=[self._as_told], client_max_size=1 << 22)
        application.add_routes(self.routes())
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await self.site(self._runner).start()

    @web.middleware
    async def _as_told(self, request: web.Request, handler: Any) -> web.StreamResponse:
        await asyncio.sleep(self.answer_s)
        if self.broken:
            return web.json_response({"title": "broken"}, status=500)
        answer: web.StreamResponse = await handler(request)
        return answer

    def down(self) -> None:
        if self._runner is not None:
            self._call(self._runner.cleanup())
            self._runner = None

    def _call(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(5)

    async def _leave(self) -> None:
        # A handler that sleeps for longer than the test would be destroyed in its sleep.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def close(self) -> None:
        self.down()
        self._call(self._leave())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()


class Supervisor(Served):
    """The control API of one app on a Unix socket."""

    def __init__(self, socket: Path) -> None:
        super().__init__()
        self.socket = socket
        self.app = "inference"
        self.wanted = 1
        self.least, self.most = 1, 4
        self.start_delay_s: float | None = 1.5
        self.utilisation: float | None = None  # a constant one would teach a capacity that is none
        self.ready_for_s = 60.0
        self.scaled: list[int] = []

    def document(self) -> dict[str, Any]:
        one = {
            "state": "ready",
            "since": time.time() - self.ready_for_s,
            "cpu_utilisation": self.utilisation,
        }
        return {
            "app": self.app,
            "wanted": self.wanted,
            "ready": self.wanted,
            "starting": 0,
            "draining": 0,
            "start_delay_s": self.start_delay_s,
            "quota_cores": 0.1,
            "limit": "cgroup",
            "min": self.least,
            "max": self.most,
            "replicas": [{"instance": f"{self.app}-{n}"} | one for n in range(self.wanted)],
        }

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/apps/{app}", self._get), web.put("/apps/{app}/scale", self._put)]

    def site(self, runner: web.AppRunner) -> web.BaseSite:
        self.socket.unlink(missing_ok=True)
        return web.UnixSite(runner, str(self.socket))

    async def _get(self, request: web.Request) -> web.Response:
        if request.match_info["app"] != self.app:
            return web.json_response({"title": "Not possible here"}, status=422)
        return web.json_response(self.document())

    async def _put(self, request: web.Request) -> web.Response:
        wanted = json.loads(await request.text())["replicas"]
        if not self.least <= wanted <= self.most:
            return web.json_response({"title": "Not possible here"}, status=422)
        self.scaled.append(wanted)
        self.wanted = wanted
        return web.json_response(self.document(), status=202)


class Sidecar(Served):
    """Dapr's publish and state routes: records what is published, keeps what is stored."""

    def __init__(self) -> None:
        super().__init__()
        self.port = 0
        self.published: list[dict[str, Any]] = []
        self.state: dict[str, Any] = {}
        self.saves: list[list[str]] = []

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1.0/publish/events/decisions", self._publish),
            web.post("/v1.0/state/scaling", self._save),
            web.get("/v1.0/state/scaling/{key}", self._read),
        ]

    def site(self, runner: web.AppRunner) -> web.BaseSite:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        return web.SockSite(runner, listener)

    async def _publish(self, request: web.Request) -> web.Response:
        self.published.append(await request.json())
        return web.Response(status=204)

    async def _save(self, request: web.Request) -> web.Response:
        items = await request.json()
        self.state.update({item["key"]: item["value"] for item in items})
        self.saves.append([item["key"] for item in items])
        return web.Response(status=204)

    async def _read(self, request: web.Request) -> web.Response:
        key = request.match_info["key"]
        return web.json_response(self.state[key]) if key in self.state else web.Response(status=204)


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    made = Supervisor(tmp_path / "control.sock")
    made.up()
    yield made
    made.close()


@pytest.fixture
def sidecar() -> Iterator[Sidecar]:
    made = Sidecar()
    made.up()
    yield made
    made.close()
