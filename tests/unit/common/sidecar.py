"""A sidecar for tests: Dapr's state and publish API over HTTP, in memory, with faults on demand."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

from aiohttp import web
from pydantic import SecretStr

from services.common.settings import ServiceSettings

TOKEN = "sidecar-token"
APP_TOKEN = "app-token-0123456789"


class FakeSidecar:
    """State with ETags and first-write as Dapr's Redis store keeps them; `down` makes every state call
    fail.
    """

    def __init__(self) -> None:
        self.state: dict[tuple[str, str], tuple[Any, int]] = {}
        self.saves: list[tuple[str, list[dict[str, Any]]]] = []
        self.published: list[tuple[str, Any]] = []
        self.reads: Counter[str] = Counter()
        self.down = False
        self.delay_s = 0.0
        self.port = 0
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> FakeSidecar:
        app = web.Application()
        app.router.add_post("/v1.0/publish/{pubsub}/{topic}", self._publish)
        app.router.add_post("/v1.0/state/{store}/bulk", self._bulk)
        app.router.add_post("/v1.0/state/{store}", self._save)
        app.router.add_get("/v1.0/state/{store}/{key}", self._get)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def settings(self, **more: Any) -> ServiceSettings:
        """Settings of a service whose sidecar this is."""
        return ServiceSettings(
            dapr_http_port=self.port,
            dapr_api_token=SecretStr(TOKEN),
            app_api_token=SecretStr(APP_TOKEN),
            app_id="tested",
            **more,
        )

    async def _enter(self, request: web.Request) -> None:
        if request.headers.get("dapr-api-token") != TOKEN:
            raise web.HTTPUnauthorized
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if self.down:
            raise web.HTTPInternalServerError(text='{"errorCode":"ERR_STATE_STORE"}')

    async def _publish(self, request: web.Request) -> web.Response:
        await self._enter(request)
        self.published.append((request.match_info["topic"], await request.json()))
        return web.Response(status=204)

    async def _save(self, request: web.Request) -> web.Response:
        await self._enter(request)
        store = request.match_info["store"]
        items = await request.json()
        for item in items:
            _, version = self.state.get((store, item["key"]), (None, 0))
            first = item.get("options", {}).get("concurrency") == "first-write"
            if first and str(version) != item.get("etag", "0"):
                status = 409 if "etag" in item else 500
                return web.Response(status=status, text='{"errorCode":"ERR_STATE_SAVE"}')
        for item in items:
            _, version = self.state.get((store, item["key"]), (None, 0))
            self.state[store, item["key"]] = (item["value"], version + 1)
        self.saves.append((store, items))
        return web.Response(status=204)

    async def _get(self, request: web.Request) -> web.Response:
        await self._enter(request)
        self.reads[request.match_info["store"]] += 1
        found = self.state.get((request.match_info["store"], request.match_info["key"]))
        if found is None:
            return web.Response(status=204)
        return web.Response(
            body=json.dumps(found[0]), headers={"etag": str(found[1])}, content_type="application/json"
        )

    async def _bulk(self, request: web.Request) -> web.Response:
        if self.down:
            keys = (await request.json())["keys"]
            return web.json_response([{"key": key, "error": "connection refused"} for key in keys])
        await self._enter(request)
        store = request.match_info["store"]
        self.reads[store] += 1
        rows: list[dict[str, Any]] = []
        for key in (await request.json())["keys"]:
            found = self.state.get((store, key))
            rows.append(
                {"key": key} if found is None else {"key": key, "data": found[0], "etag": str(found[1])}
            )
        return web.json_response(rows)
