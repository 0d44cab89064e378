"""The app factory: the token guard, problem documents for every error, health, hot routes."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from jsonschema import Draft202012Validator
from pydantic import SecretStr

from services.common.app import create_app
from services.common.asgi import Receive, Scope, Send, read_body, send_json
from services.common.problems import Problem, overloaded
from services.common.settings import ServiceSettings
from services.contracts import schema

TOKEN = "a-token-of-this-app"
PROBLEM = Draft202012Validator(schema("problem"))


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    await send_json(send, await read_body(receive, 64))


async def shed(scope: Scope, receive: Receive, send: Send) -> None:
    raise overloaded("no room", 2.2)


async def broken(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("secret detail")


def app_for(token: str = TOKEN, *, is_ready: bool = True) -> FastAPI:
    app = create_app(
        ServiceSettings(app_id="tested", app_api_token=SecretStr(token), max_body_bytes=1024),
        title="tested",
        ready=lambda: is_ready,
        public_paths=frozenset({"/open"}),
        hot={"/hot": echo, "/shed": shed, "/broken": broken},
    )

    @app.get("/open")
    async def open_path() -> str:
        return "open"

    @app.get("/numbers/{number}")
    async def number(number: int) -> int:
        return number

    @app.post("/bodies")
    async def bodies(body: dict[str, Any]) -> int:
        return len(body)

    @app.get("/slow-broken")
    async def slow_broken() -> None:
        raise RuntimeError("secret detail")

    @app.get("/refused")
    async def refused() -> None:
        raise Problem(422, "some-kind", "Some kind", "for this reason", known=["a"])

    return app


def ask(app: FastAPI, method: str, path: str, token: str | None = TOKEN, **options: Any) -> httpx.Response:
    async def main() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            headers = {} if token is None else {"dapr-api-token": token}
            return await client.request(method, path, headers=headers, **options)

    return asyncio.run(main())


def check_problem(response: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    PROBLEM.validate(document)
    assert document["type"] == f"https://foremesh.dev/problems/{slug}"
    assert document["status"] == status
    return document


@pytest.mark.parametrize(
    "path", ["/hot", "/numbers/1", "/nothing-here", "/openapi.json", "/docs", "/healthz/"]
)
@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN + "x", TOKEN[:-1]])
def test_without_the_token_every_path_is_refused(path: str, token: str | None) -> None:
    check_problem(ask(app_for(), "POST", path, token), 401, "unauthorized")


def test_an_app_without_a_token_refuses_everyone() -> None:
    check_problem(ask(app_for(token=""), "POST", "/hot", ""), 401, "unauthorized")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/open"])
def test_open_paths_need_no_token(path: str) -> None:
    assert ask(app_for(), "GET", path, None).status_code == 200


def test_hot_routes_answer_with_the_token_and_post_only() -> None:
    response = ask(app_for(), "POST", "/hot", content=b'{"a":1}')
    assert (response.status_code, response.content) == (200, b'{"a":1}')
    check_problem(ask(app_for(), "GET", "/hot"), 405, "method-not-allowed")


def test_not_ready_is_a_503() -> None:
    check_problem(ask(app_for(is_ready=False), "GET", "/readyz", None), 503, "unavailable")
    assert ask(app_for(is_ready=False), "GET", "/healthz", None).status_code == 200


def test_bodies_above_the_bound_are_refused() -> None:
    check_problem(ask(app_for(), "POST", "/hot", content=b"x" * 65), 413, "body-too-large")
    check_problem(ask(app_for(), "POST", "/bodies", content=b"x" * 1025), 413, "body-too-large")

    async def parts() -> Any:
        for _ in range(20):
            yield b"x" * 100

    check_problem(ask(app_for(), "POST", "/bodies", content=parts()), 413, "body-too-large")
    check_problem(ask(app_for(), "POST", "/hot", content=parts()), 413, "body-too-large")


def test_every_error_is_a_problem_and_none_shows_its_inside() -> None:
    response = ask(app_for(), "POST", "/shed")
    check_problem(response, 503, "overloaded")
    assert response.headers["retry-after"] == "3"
    for method, path in (("POST", "/broken"), ("GET", "/slow-broken")):
        document = check_problem(ask(app_for(), method, path), 500, "internal")
        assert "secret" not in str(document)
    check_problem(ask(app_for(), "GET", "/nothing-here"), 404, "not-found")
    check_problem(ask(app_for(), "DELETE", "/numbers/1"), 405, "method-not-allowed")
    assert check_problem(ask(app_for(), "GET", "/numbers/x"), 400, "wrong-type")["field"] == "number"
    check_problem(ask(app_for(), "POST", "/bodies", content=b"[1,"), 400, "wrong-type")
    assert check_problem(ask(app_for(), "GET", "/refused"), 422, "some-kind")["known"] == ["a"]
