"""Events: what is acknowledged, dropped and asked for again."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from services.common.app import create_app
from services.common.events import subscribe
from services.common.settings import ServiceSettings

TOKEN = "a-token-of-this-app"


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b'{"id":"1","type":"com.dapr.event.sent","data":{"t":1}}', "SUCCESS"),
        (b'{"id":"1","data":{"t":"not a number"}}', "DROP"),
        (b'{"id":"1","data":{}}', "DROP"),
        (b'{"id":"1","data":"text"}', "DROP"),
        (b'{"id":"1"}', "DROP"),
        (b"not json", "DROP"),
        (b'{"data":{"t":13}}', "RETRY"),
    ],
)
def test_delivery(content: bytes, status: str) -> None:
    heard: list[int] = []

    async def handler(data: dict[str, Any]) -> None:
        t = int(data["t"])
        if t == 13:
            raise OSError("disk full")
        heard.append(t)

    app = create_app(ServiceSettings(app_api_token=SecretStr(TOKEN)), title="tested")
    subscribe(app, "traffic", handler)

    async def main() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
            return await client.post("/events/traffic", content=content, headers={"dapr-api-token": TOKEN})

    response = asyncio.run(main())
    assert (response.status_code, response.json()) == (200, {"status": status})
    assert heard == ([1] if status == "SUCCESS" else [])
