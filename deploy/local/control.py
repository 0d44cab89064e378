"""The supervisor's control API: HTTP over a Unix socket that only its owner may open."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from deploy.local.mesh import Mesh, OutOfRange
from deploy.local.process import StartFailed

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def problem(status: int, slug: str, title: str, detail: str) -> web.Response:
    """An RFC 9457 problem document."""
    body = {
        "type": f"https://foremesh.dev/problems/{slug}",
        "title": title,
        "status": status,
        "detail": detail,
    }
    return web.json_response(body, status=status, content_type="application/problem+json")


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except OutOfRange as e:
        return problem(422, "out-of-range", "Not possible here", str(e))
    except StartFailed as e:
        return problem(503, "unavailable", "Not ready in time", str(e))
    except (ValueError, KeyError, TypeError) as e:
        return problem(400, "bad-json", "Bad request", f"{type(e).__name__}: {e}")
    except web.HTTPException as e:
        return problem(e.status, "not-found" if e.status == 404 else "bad-request", e.reason, request.path)


def api(mesh: Mesh, down: Callable[[], None]) -> web.Application:
    """GET /status, /hops, /apps/{app}; PUT /apps/{app}/scale, /settings; POST /down."""

    def answer(document: Any, status: int = 200) -> web.Response:
        return web.Response(text=json.dumps(document), status=status, content_type="application/json")

    async def status(_: web.Request) -> web.Response:
        return answer(await asyncio.to_thread(mesh.status))

    async def hops(_: web.Request) -> web.Response:
        await mesh.observer.look()
        return answer(mesh.observer.hops())

    async def app(request: web.Request) -> web.Response:
        return answer(mesh.app_status(request.match_info["app"]))

    async def scale(request: web.Request) -> web.Response:
        wanted = (await request.json())["replicas"]
        if not isinstance(wanted, int) or isinstance(wanted, bool):
            raise ValueError(f"replicas must be a whole number, not {wanted!r}")
        mesh.scale(request.match_info["app"], wanted)
        return answer(mesh.app_status(request.match_info["app"]), 202)

    async def settings(request: web.Request) -> web.Response:
        await mesh.reconfigure(dict(await request.json()))
        return answer(json.loads(mesh.settings.model_dump_json()))

    async def shutdown(_: web.Request) -> web.Response:
        down()
        return answer({"state": "stopping"}, 202)

    application = web.Application(middlewares=[problems], client_max_size=64 * 1024)
    application.add_routes(
        [
            web.get("/status", status),
            web.get("/hops", hops),
            web.get("/apps/{app}", app),
            web.put("/apps/{app}/scale", scale),
            web.put("/settings", settings),
            web.post("/down", shutdown),
        ]
    )
    return application


async def listen(application: web.Application, socket: Path) -> web.AppRunner:
    """Serve on the socket; it is made inside a 0700 folder and is itself 0600."""
    socket.unlink(missing_ok=True)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    await web.UnixSite(runner, str(socket)).start()
    socket.chmod(0o600)
    return runner
