"""Asks an app in this process, its lifespan included, and checks what comes back against the contracts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from fastapi import FastAPI
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from services.contracts import names, schema

TOKEN = "app-token-0123456789"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

_registry: Registry[Any] = Registry().with_resources(
    [(schema(name)["$id"], Resource.from_contents(schema(name))) for name in names()]
)


def validate(name: str, document: object) -> None:
    """Raise jsonschema's `ValidationError` when `document` does not keep the contract `name`."""
    Draft202012Validator(schema(name), registry=_registry).validate(document)


def with_app(app: FastAPI, test: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    """Run `test` with a client of `app`, between its start and its end."""

    async def main() -> None:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        headers = {"dapr-api-token": TOKEN}
        async with (
            asyncio.timeout(60),
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://app", headers=headers) as client,
        ):
            await test(client)

    asyncio.run(main())


def problem(response: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """Return the problem document in `response`, checked against its contract, `status` and `slug`."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    validate("problem", document)
    assert (document["type"], document["status"]) == (f"https://foremesh.dev/problems/{slug}", status)
    return document
