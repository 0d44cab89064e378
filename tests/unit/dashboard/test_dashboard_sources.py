"""The two things the dashboard asks, when they answer badly: the supervisor's socket and Jaeger."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from services.dashboard import control, jaeger
from services.dashboard.control import Supervisor, SupervisorUnavailable
from services.dashboard.jaeger import Jaeger, JaegerUnavailable
from tests.browser.stage import RECORDED

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def serving(answer: Answer, socket: Path | None = None) -> AsyncIterator[str]:
    """A server of one answer, on a free port (yields its address) or on a Unix socket."""
    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site: Any = web.UnixSite(runner, str(socket)) if socket else web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield str(socket) if socket else f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def slow(_: web.Request) -> web.StreamResponse:
    """Too late for anybody."""
    await asyncio.sleep(5)
    return web.Response()


async def large(_: web.Request) -> web.StreamResponse:
    """17 MiB of spaces: JSON, in a way."""
    return web.Response(body=b" " * (17 << 20), content_type="application/json")


def fixed(body: bytes, status: int = 200) -> Answer:
    """Always the same answer."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, status=status, content_type="application/json")

    return answer


BAD: list[tuple[Answer, str]] = [
    (slow, "did not answer|no answer in"),
    (large, "larger than|answered 200, [0-9]+ bytes"),
    (fixed(b"<html>"), "not an answer|not answer with a JSON object"),
    (fixed(b"[1]"), "not an answer|not answer with a JSON object"),
    (fixed(b"{}", 500), "answered 500"),
]


@pytest.mark.parametrize(("answer", "why"), BAD)
def test_a_bad_jaeger_is_named(answer: Answer, why: str) -> None:
    async def scenario() -> None:
        async with serving(answer) as url:
            one = Jaeger(url, timeout_s=0.5)
            try:
                with pytest.raises(JaegerUnavailable, match=why):
                    await one.trace("a" * 32)
                with pytest.raises(JaegerUnavailable, match=why):
                    await one.recent(5)
            finally:
                await one.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(("answer", "why"), BAD)
def test_a_bad_supervisor_is_named(answer: Answer, why: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(answer, tmp_path / "control.sock") as socket:
            one = Supervisor(socket, scaled_app="inference", timeout_s=0.5)
            try:
                with pytest.raises(SupervisorUnavailable, match=why):
                    await one.mesh()
            finally:
                await one.close()

    asyncio.run(scenario())


def test_nobody_there(tmp_path: Path) -> None:
    async def scenario() -> None:
        supervisor = Supervisor(str(tmp_path / "none.sock"), scaled_app="inference")
        with pytest.raises(SupervisorUnavailable):
            await supervisor.mesh()
        await supervisor.close()
        nobody = Jaeger("http://127.0.0.1:1")
        with pytest.raises(JaegerUnavailable, match="cannot be reached"):
            await nobody.trace("a" * 32)
        await nobody.close()

    asyncio.run(scenario())


def test_many_pages_cost_one_query() -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request.path_qs)
        return web.json_response({"data": list(RECORDED["traces"].values())})

    async def scenario() -> None:
        async with serving(answer) as url:
            one = Jaeger(url)
            listed = await asyncio.gather(*(one.recent(2) for _ in range(20)))
            await one.close()
        assert all(len(lines) == 2 for lines in listed)

    asyncio.run(scenario())
    assert asked == [f"/api/traces?service=gateway&limit={jaeger.MAX_LISTED}&lookback=1h"]


def test_links_are_followed_one_level_and_their_loss_is_survived() -> None:
    asked: list[str] = []
    member, batch = (RECORDED["traces"][RECORDED[name]] for name in ("member", "batch"))

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        known = {f"/api/traces/{RECORDED['member']}": member}
        if len(asked) > 2:
            known[f"/api/traces/{RECORDED['batch']}"] = batch
        found = known.get(request.path)
        return web.json_response({"data": [found] if found else None}, status=200 if found else 404)

    async def scenario() -> list[int]:
        async with serving(answer) as url:
            one = Jaeger(url)
            trees = [await one.trace(RECORDED["member"]) for _ in range(2)]
            await one.close()
        return [len(tree.rows) for tree in trees if tree]

    assert asyncio.run(scenario()) == [2, 16]
    assert len(asked) == 4


def test_what_the_supervisor_says_is_bounded(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path != "/status":
            return web.Response(status=404)
        rows = [{"name": str(i), "secret": "x"} for i in range(1000)]
        return web.json_response({"mesh": "m", "processes": rows, "identities": "none"})

    async def scenario() -> dict[str, Any]:
        async with serving(answer, tmp_path / "control.sock") as socket:
            one = Supervisor(socket, scaled_app="inference")
            seen = await one.mesh()
            await one.close()
            return seen

    seen = asyncio.run(scenario())
    assert len(seen["processes"]) == 128 and seen["identities"] == [] and seen["scaled"] is None
    assert "secret" not in json.dumps(seen)
    assert control.MAX_ANSWER_BYTES < 16 << 20
