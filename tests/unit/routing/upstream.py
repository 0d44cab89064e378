"""Tokenization and inference for tests of routing: over HTTP, with faults on demand."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
from aiohttp import web
from pydantic import SecretStr

from services.routing.app import create
from services.routing.settings import Settings
from tests.unit.common.client import TOKEN, validate
from tests.unit.common.sidecar import TOKEN as SIDECAR_TOKEN
from tests.unit.common.sidecar import FakeSidecar


class Upstream:
    """Both services: a text is tokenized to its length, and its intent is `intent_<length>`."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any], str]] = []
        self.delay_s = 0.0
        self.delay_of: dict[str, float] = {}
        self.tokenize_status = 200
        self.infer_status = 200
        self.garbage = b""
        self.item_status = 200
        self.offsets: Any = None
        self.marks: Any = [{"type": "all", "first": 0, "last": 0}]
        self.port = 0

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator[Upstream]:
        """Listen on a free port."""
        app = web.Application()
        app.router.add_post("/v1/tokenize", self._tokenize)
        app.router.add_post("/v1/infer", self._infer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()

    def sizes(self, app: str) -> list[int]:
        """Items of each call to `app`."""
        key = "texts" if app == "tokenize" else "items"
        return [len(body[key]) for name, body, _ in self.calls if name == app]

    def traceparents(self, app: str) -> list[str]:
        """The header of each call to `app`."""
        return [traceparent for name, _, traceparent in self.calls if name == app]

    async def _enter(self, name: str, request: web.Request, status: int) -> dict[str, Any]:
        body: dict[str, Any] = await request.json()
        validate(f"{name}-request", body)
        self.calls.append((name, body, request.headers["traceparent"]))
        await asyncio.sleep(self.delay_s)
        if status != 200:
            kind = "overloaded" if status == 503 else "internal"
            document = {"type": f"https://foremesh.dev/problems/{kind}", "title": "t", "status": status}
            raise Refused(status, document)
        return body

    async def _tokenize(self, request: web.Request) -> web.Response:
        try:
            body = await self._enter("tokenize", request, self.tokenize_status)
        except Refused as refused:
            return refused.response()
        ids = [[len(text)] for text in body["texts"]]
        offsets = [[[0, len(text)]] for text in body["texts"]] if self.offsets is None else self.offsets
        told = {"offsets": offsets} if body.get("offsets") and offsets else {}
        return web.json_response({"ids": ids, "truncated": [False] * len(ids), **told})

    async def _infer(self, request: web.Request) -> web.Response:
        try:
            body = await self._enter("infer", request, self.infer_status)
        except Refused as refused:
            return refused.response()
        await asyncio.sleep(self.delay_of.get(body["tier"], 0.0))
        if self.garbage:
            return web.Response(body=self.garbage)
        outcomes = [self._outcome(item) for item in body["items"]]
        about = {"model": body["model"], "tier": body["tier"], "version": "1", "replica": "inference-1"}
        return web.json_response({**about, "items": outcomes})

    def _outcome(self, item: dict[str, Any]) -> dict[str, Any]:
        if self.item_status == 503:
            return {"status": 503, "reason": "overloaded", "retry_after_s": 2.5}
        if self.item_status != 200 or item["deadline_ms"] <= 0:
            return {"status": 504 if item["deadline_ms"] <= 0 else self.item_status, "reason": "because"}
        return {
            "status": 200,
            "intent": f"intent_{item['ids'][0]}",
            "score": 0.5,
            "alternatives": [{"intent": f"other_{n}", "score": 0.01} for n in range(item["top_k"])],
            "queue_ms": 0.1,
            "run_ms": 0.2,
            **({"marks": self.marks} if "continues" in item else {}),
        }


class Refused(Exception):
    """A service that answers with a problem."""

    def __init__(self, status: int, document: dict[str, Any]) -> None:
        super().__init__(status)
        self.status = status
        self.document = document

    def response(self) -> web.Response:
        """Return it as a response."""
        return web.json_response(
            self.document, status=self.status, content_type="application/problem+json", dumps=compact
        )


def compact(value: Any) -> str:
    """Return JSON as the services write it, without spaces."""
    return msgspec.json.encode(value).decode()


class Mesh:
    """Routing in this process, between a fake upstream and a fake sidecar."""

    def __init__(self, client: httpx.AsyncClient, upstream: Upstream, sidecar: FakeSidecar) -> None:
        self.client = client
        self.upstream = upstream
        self.sidecar = sidecar

    async def ask(self, text: str, **more: Any) -> httpx.Response:
        """Ask for one intent."""
        return await self.client.post("/v1/intents", json={"text": text, **more})

    async def coalesced(self, *items: dict[str, Any]) -> list[dict[str, Any]]:
        """Ask as the gateway does, and check the answer against the contract."""
        body = {"items": [{"deadline_ms": 5000, **item} for item in items]}
        validate("intents-coalesced-request", body)
        response = await self.client.post("/internal/intents", json=body)
        assert response.status_code == 200, response.text
        validate("intents-coalesced-response", response.json())
        outcomes: list[dict[str, Any]] = response.json()["items"]
        return outcomes


def with_mesh(
    catalog: Path, test: Callable[[Mesh], Awaitable[None]], *, redis: bool = True, **more: Any
) -> None:
    """Run `test` with routing between fakes; without `redis` routing has no sidecar."""

    async def main() -> None:
        async with asyncio.timeout(60), FakeSidecar() as sidecar, Upstream().run() as upstream:
            base = f"http://127.0.0.1:{upstream.port}"
            settings = Settings(
                catalog=catalog,
                app_api_token=SecretStr(TOKEN),
                dapr_api_token=SecretStr(SIDECAR_TOKEN),
                dapr_http_port=sidecar.port if redis else 0,
                direct={"tokenization": base, "inference": base},
                **more,
            )
            app = create(settings)
            async with (
                app.router.lifespan_context(app),
                httpx.AsyncClient(
                    transport=httpx.ASGITransport(app, raise_app_exceptions=False),
                    base_url="http://app",
                    headers={"dapr-api-token": TOKEN},
                ) as client,
            ):
                await test(Mesh(client, upstream, sidecar))

    asyncio.run(main())
