"""The control API over its real socket: only its owner gets in, and every error is a problem document."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest

from deploy.local import control
from deploy.local.mesh import Mesh, OutOfRange
from deploy.local.process import StartFailed
from deploy.local.settings import MeshSettings

Talk = Callable[[aiohttp.ClientSession], Awaitable[None]]


class FewReplicas:
    """As much of a mesh as the API asks for: one app, one to four replicas."""

    def __init__(self) -> None:
        self.settings = MeshSettings()
        self.observer = self
        self.wanted = 1

    def status(self) -> dict[str, Any]:
        return {"mesh": "mesh-8700"}

    def app_status(self, app: str) -> dict[str, Any]:
        if app != "inference":
            raise OutOfRange(f"app '{app}' is not in this mesh (inference)")
        return {"app": app, "wanted": self.wanted}

    def scale(self, app: str, wanted: int) -> None:
        if not 1 <= wanted <= 4:
            raise OutOfRange(f"replicas {wanted} is outside 1..4")
        self.wanted = wanted

    async def reconfigure(self, changes: dict[str, Any]) -> None:
        if changes.get("policy") == "hpa":
            raise StartFailed("autoscaler was not ready within 60 s")
        self.settings = MeshSettings(**(self.settings.model_dump() | changes))

    async def look(self) -> None:
        return

    def hops(self) -> dict[str, int]:
        return {"mtls": 3, "plaintext": 0}


@pytest.fixture
def talking(tmp_path: Path) -> Callable[[Talk], list[str]]:
    """Runs an exchange with the API; returns what it did besides answering."""

    def run(talk: Talk) -> list[str]:
        asked: list[str] = []

        async def main() -> None:
            socket = tmp_path / "control.sock"
            mesh = cast(Mesh, FewReplicas())
            runner = await control.listen(control.api(mesh, lambda: asked.append("down")), socket)
            try:
                assert socket.stat().st_mode & 0o777 == 0o600
                connector = aiohttp.UnixConnector(str(socket))
                async with aiohttp.ClientSession("http://mesh", connector=connector) as http:
                    await talk(http)
            finally:
                await runner.cleanup()

        asyncio.run(asyncio.wait_for(main(), 30))
        return asked

    return run


def test_status_hops_and_apps(talking: Any) -> None:
    async def talk(http: aiohttp.ClientSession) -> None:
        for path, expected in (
            ("/status", {"mesh": "mesh-8700"}),
            ("/hops", {"mtls": 3, "plaintext": 0}),
            ("/apps/inference", {"app": "inference", "wanted": 1}),
        ):
            async with http.get(path) as reply:
                assert (reply.status, reply.content_type) == (200, "application/json")
                assert await reply.json() == expected

    talking(talk)


def test_scaling_answers_with_the_app(talking: Any) -> None:
    async def talk(http: aiohttp.ClientSession) -> None:
        async with http.put("/apps/inference/scale", json={"replicas": 3}) as reply:
            assert reply.status == 202
            assert await reply.json() == {"app": "inference", "wanted": 3}

    talking(talk)


def test_settings_come_back_as_they_are_now(talking: Any) -> None:
    async def talk(http: aiohttp.ClientSession) -> None:
        async with http.put("/settings", json={"policy": "static:2"}) as reply:
            assert reply.status == 200
            assert (await reply.json())["policy"] == "static:2"

    talking(talk)


def test_down_is_passed_on(talking: Any) -> None:
    async def talk(http: aiohttp.ClientSession) -> None:
        async with http.post("/down") as reply:
            assert reply.status == 202

    assert talking(talk) == ["down"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "slug", "says"),
    [
        ("PUT", "/apps/inference/scale", '{"replicas": 5}', 422, "out-of-range", "1..4"),
        ("PUT", "/apps/inference/scale", '{"replicas": 0}', 422, "out-of-range", "1..4"),
        ("GET", "/apps/nosuch", None, 422, "out-of-range", "'nosuch'"),
        ("PUT", "/apps/inference/scale", '{"replicas": "3"}', 400, "bad-json", "whole number"),
        ("PUT", "/apps/inference/scale", '{"replicas": true}', 400, "bad-json", "whole number"),
        ("PUT", "/apps/inference/scale", '{"replicas": 1.5}', 400, "bad-json", "whole number"),
        ("PUT", "/apps/inference/scale", "{}", 400, "bad-json", "replicas"),
        ("PUT", "/apps/inference/scale", "[3]", 400, "bad-json", ""),
        ("PUT", "/apps/inference/scale", "{not json", 400, "bad-json", ""),
        ("PUT", "/apps/inference/scale", "\x00\xff", 400, "bad-json", ""),
        ("PUT", "/settings", '{"capacity_rps": -1}', 400, "bad-json", "capacity_rps"),
        ("PUT", "/settings", "3", 400, "bad-json", ""),
        ("PUT", "/settings", '{"policy": "hpa"}', 503, "unavailable", "autoscaler was not ready"),
        ("PUT", "/settings", '"' + "x" * 70_000 + '"', 413, "bad-request", "/settings"),
        ("GET", "/nosuch", None, 404, "not-found", "/nosuch"),
        ("DELETE", "/status", None, 405, "bad-request", "/status"),
    ],
    ids=lambda value: str(value)[:30] if value else "-",
)
def test_errors_are_problem_documents(
    talking: Any, method: str, path: str, body: str | None, status: int, slug: str, says: str
) -> None:
    async def talk(http: aiohttp.ClientSession) -> None:
        data = body.encode() if body is not None else None
        async with http.request(
            method, path, data=data, headers={"content-type": "application/json"}
        ) as reply:
            assert (reply.status, reply.content_type) == (status, "application/problem+json")
            document = json.loads(await reply.text())
        assert document["type"] == f"https://foremesh.dev/problems/{slug}"
        assert document["status"] == status
        assert document["title"]
        assert says in document["detail"]
        assert "Traceback" not in document["detail"]

    talking(talk)


def test_a_socket_left_behind_is_replaced(tmp_path: Path) -> None:
    async def main() -> None:
        socket = tmp_path / "control.sock"
        socket.write_text("left behind")
        api = control.api(cast(Mesh, FewReplicas()), lambda: None)
        runner = await control.listen(api, socket)
        await runner.cleanup()

    asyncio.run(main())
