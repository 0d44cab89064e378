"""One app factory and one way to run it.

`create_app` returns a FastAPI app with health, readiness and metrics, problem documents for every error and
the token guard in front. Hot routes are plain ASGI functions that run before FastAPI sees the request: no
middleware, no per-request logging, no validation models (FastAPI's own dispatch and serialisation took more
than half of the time of a tiny model's answer).
"""

from __future__ import annotations

import hmac
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.types import Lifespan

from services.common import VERSION, problems, serving
from services.common.asgi import (
    ClientGone,
    Receive,
    Route,
    Scope,
    Send,
    bounded,
    header,
    send_problem,
)
from services.common.catalog import CatalogError
from services.common.logs import logger
from services.common.problems import Problem
from services.common.settings import ServiceSettings, explain
from services.contracts import schema

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})

S = TypeVar("S", bound=ServiceSettings)

log = logger("foremesh.app")


class MeshApp(FastAPI):
    """FastAPI behind the token guard, with the hot routes in front of it."""

    def __init__(
        self,
        settings: ServiceSettings,
        open_paths: frozenset[str],
        hot: Mapping[str, Route],
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._token = settings.app_api_token.get_secret_value().encode()
        self._open_paths = open_paths
        self._hot = dict(hot)
        self._max_body_bytes = settings.max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI event."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        path = scope["path"]
        try:
            if path not in self._open_paths and not self._may_enter(scope):
                raise problems.unauthorized()
            route = self._hot.get(path)
            if route is None:
                await super().__call__(scope, bounded(receive, self._max_body_bytes), send)
            elif scope["method"] == "POST":
                await route(scope, receive, send)
            else:
                raise Problem(405, "method-not-allowed", "Method not allowed", f"{path} takes POST only")
        except Problem as problem:
            await send_problem(send, problem)
        except ClientGone:
            return
        except Exception:
            if route is None:
                raise  # Starlette has answered already; uvicorn logs it
            log.exception("request failed", extra={"path": path})
            await send_problem(send, problems.internal())

    def _may_enter(self, scope: Scope) -> bool:
        given = header(scope, b"dapr-api-token")
        # An app without a token would be open to everyone on this machine: refuse instead.
        return given is not None and bool(self._token) and hmac.compare_digest(given, self._token)


def create_app(
    settings: ServiceSettings,
    *,
    title: str,
    lifespan: Lifespan[FastAPI] | None = None,
    ready: Callable[[], bool] = lambda: True,
    public_paths: frozenset[str] = frozenset(),
    hot: Mapping[str, Route] | None = None,
) -> FastAPI:
    """Return the app of a service.

    `ready` tells whether it can take load (GET /readyz: 200, else 503). Every path needs the app's token, in
    the header `dapr-api-token`, except health, readiness, metrics and `public_paths`. `hot` maps paths to
    plain ASGI functions for POST; they may raise `Problem`.
    """
    app = MeshApp(
        settings,
        OPEN_PATHS | public_paths,
        hot or {},
        title=title,
        version=VERSION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        responses={
            "default": {
                "description": schema("problem")["title"],
                "content": {problems.MEDIA_TYPE: {"schema": schema("problem")}},
            }
        },
        exception_handlers={
            Problem: _on_problem,
            RequestValidationError: _on_invalid,
            HTTPException: _on_http_error,
            Exception: _on_error,
        },
    )

    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> Response:
        return Response(b'{"status":"alive"}', media_type="application/json")

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> Response:
        if not ready():
            raise problems.unavailable(f"{settings.instance} is not ready to take load yet")
        return Response(b'{"status":"ready"}', media_type="application/json")

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return app


def problem_response(problem: Problem) -> Response:
    """Return `problem` as a FastAPI response."""
    return Response(problem.body(), status_code=problem.status, headers=problem.headers())


async def _on_problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101  # registered for this type only
    return problem_response(error)


async def _on_invalid(_: Request, error: Exception) -> Response:
    first = error.errors()[0] if isinstance(error, RequestValidationError) and error.errors() else {}
    field = ".".join(str(part) for part in first.get("loc", ())[1:]) or "body"
    return problem_response(problems.wrong_type(field, f"{field}: {first.get('msg', 'is not valid')}"))


async def _on_http_error(request: Request, error: Exception) -> Response:
    if isinstance(error.__cause__, Problem):
        return problem_response(error.__cause__)  # FastAPI hides what stopped the reading of a body
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 404:
        return problem_response(problems.not_found(f"there is nothing at {request.url.path}"))
    if status == 405:
        return problem_response(problems.method_not_allowed(request.url.path, request.method))
    if status == 400:
        return problem_response(problems.bad_json(str(getattr(error, "detail", "the body cannot be read"))))
    return problem_response(
        Problem(status, "http-error", "Request failed", str(getattr(error, "detail", "")))
    )


async def _on_error(request: Request, error: Exception) -> Response:
    log.error("request failed", extra={"path": request.url.path}, exc_info=error)
    return problem_response(problems.internal())


def serve(app: FastAPI, settings: ServiceSettings, *, also: Sequence[tuple[FastAPI, str, int]] = ()) -> None:
    """Serve `app` on the settings' host and port until SIGTERM or SIGINT, then drain for 5 s at most and
    return.

    `also` lists further (app, host, port) served by the same process, such as a page for people.
    """
    serving.run(
        [
            serving.Listener(one, host, port, max_connections=settings.max_connections)
            for one, host, port in ((app, settings.host, settings.port), *also)
        ]
    )


def run(settings_class: type[S], create: Callable[[S], FastAPI]) -> None:
    """Read the settings, make the app and serve it: what `python -m services.<app>` does.

    Ends the process with status 1 and one line on stderr when the settings or the catalog cannot be used.
    """
    serving.short_switches()
    try:
        settings = settings_class()
        app = create(settings)
    except (ValidationError, CatalogError) as error:
        why = explain(error, settings_class) if isinstance(error, ValidationError) else error
        sys.exit(f"{settings_class.__module__.rpartition('.')[0]} cannot start: {why}")
    serve(app, settings)
