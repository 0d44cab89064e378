"""The Dapr client against a sidecar over HTTP: what is sent, what is refused, what is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web
from pydantic import SecretStr

from services.common import dapr as dapr_module
from services.common.dapr import Dapr, DaprUnavailable, StateConflict, StateItem
from services.common.settings import ServiceSettings
from tests.unit.common.sidecar import APP_TOKEN, FakeSidecar


def with_sidecar(test: Callable[[FakeSidecar, Dapr], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(20), FakeSidecar() as sidecar:
            client = Dapr(sidecar.settings())
            await client.start()
            try:
                await test(sidecar, client)
            finally:
                await client.close()

    asyncio.run(main())


def test_state_is_saved_with_ttl_and_read_back() -> None:
    async def test(sidecar: FakeSidecar, dapr: Dapr) -> None:
        assert await dapr.get_state("registry", "intent.tiny") is None
        await dapr.save_state("registry", [StateItem("intent.tiny", {"a": 1}, 30), StateItem("b/c d", [2])])
        assert await dapr.get_state("registry", "intent.tiny") == b'{"a": 1}'
        assert await dapr.get_state("registry", "b/c d") == b"[2]"
        assert sidecar.saves[0][1][0]["metadata"] == {"ttlInSeconds": "30"}
        assert "metadata" not in sidecar.saves[0][1][1]
        found = await dapr.get_states("registry", ["intent.tiny", "nope", "b/c d"])
        assert {key: value.replace(b" ", b"") for key, value in found.items()} == {
            "intent.tiny": b'{"a":1}',
            "b/c d": b"[2]",
        }

    with_sidecar(test)


def test_first_write_loses_against_an_existing_key_and_an_old_etag() -> None:
    async def test(sidecar: FakeSidecar, dapr: Dapr) -> None:
        await dapr.save_state("sessions", [StateItem("s", 1, first_write=True)])
        with pytest.raises(StateConflict):
            await dapr.save_state("sessions", [StateItem("s", 2, first_write=True)])
        stored = await dapr.read_state("sessions", "s")
        assert stored is not None and stored.value == b"1"
        await dapr.save_state("sessions", [StateItem("s", 3, etag=stored.etag, first_write=True)])
        with pytest.raises(StateConflict):
            await dapr.save_state("sessions", [StateItem("s", 4, etag=stored.etag, first_write=True)])

    with_sidecar(test)


def test_events_are_published() -> None:
    async def test(sidecar: FakeSidecar, dapr: Dapr) -> None:
        await dapr.publish("traffic", {"t": 1})
        assert sidecar.published == [("traffic", {"t": 1})]

    with_sidecar(test)


def test_a_failing_store_and_a_slow_one_are_unavailable_with_the_reason() -> None:
    async def test(sidecar: FakeSidecar, dapr: Dapr) -> None:
        sidecar.down = True
        with pytest.raises(DaprUnavailable, match=r"sessions .* status 500: .*ERR_STATE_STORE"):
            await dapr.get_state("sessions", "s")
        with pytest.raises(DaprUnavailable, match="status 500"):
            await dapr.save_state("sessions", [StateItem("s", 1)])
        with pytest.raises(DaprUnavailable, match="connection refused"):
            await dapr.get_states("sessions", ["s", "t"])
        sidecar.down, sidecar.delay_s = False, 1.0
        with pytest.raises(DaprUnavailable, match=r"no answer within 0\.05 s"):
            await dapr.get_states("sessions", ["s"], timeout_s=0.05)

    with_sidecar(test)


def test_nothing_listening_no_sidecar_and_no_time_are_unavailable_too() -> None:
    async def main() -> None:
        for settings in (ServiceSettings(dapr_http_port=1), ServiceSettings(dapr_http_port=0)):
            client = Dapr(settings)
            with pytest.raises(DaprUnavailable):
                await client.invoke("routing", "v1/intents", b"{}", timeout_s=1)
            await client.start()
            with pytest.raises(DaprUnavailable):
                await client.invoke("routing", "v1/intents", b"{}", timeout_s=1)
            with pytest.raises(DaprUnavailable):
                await client.publish("traffic", {})
            await client.close()
        client = Dapr(ServiceSettings(dapr_http_port=9))
        await client.start()
        with pytest.raises(DaprUnavailable, match="no time was left"):
            await client.invoke("routing", "v1/intents", b"{}", timeout_s=-0.1)
        await client.close()

    asyncio.run(main())


def test_direct_calls_go_to_the_app_with_its_token_and_any_status_is_an_answer() -> None:
    async def main() -> None:
        async def echo(request: web.Request) -> web.Response:
            return web.json_response(
                {
                    "path": request.path,
                    "token": request.headers["dapr-api-token"],
                    "traceparent": request.headers["traceparent"],
                    "body": (await request.read()).decode(),
                },
                status=418,
            )

        app = web.Application()
        app.router.add_post("/{path:.*}", echo)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        base = f"http://127.0.0.1:{runner.addresses[0][1]}"
        client = Dapr(ServiceSettings(direct={"inference": base}, app_api_token=SecretStr(APP_TOKEN)))
        await client.start()
        try:
            reply = await client.invoke(
                "inference", "v1/infer", b'{"x":1}', timeout_s=2, headers={"traceparent": "t"}
            )
            assert reply.status == 418
            assert b'"path": "/v1/infer"' in reply.body and APP_TOKEN.encode() in reply.body
            assert b'"traceparent": "t"' in reply.body
        finally:
            await client.close()
            await runner.cleanup()

    asyncio.run(main())


@pytest.mark.parametrize("chunked", [False, True])
def test_a_reply_above_the_bound_is_refused(monkeypatch: pytest.MonkeyPatch, chunked: bool) -> None:
    monkeypatch.setattr(dapr_module, "MAX_REPLY_BYTES", 1000)

    async def main() -> None:
        async def big(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            if not chunked:
                response.content_length = 2000
            await response.prepare(request)
            await response.write(b"x" * 2000)
            return response

        app = web.Application()
        app.router.add_post("/big", big)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        client = Dapr(ServiceSettings(direct={"a": f"http://127.0.0.1:{runner.addresses[0][1]}"}))
        await client.start()
        try:
            with pytest.raises(DaprUnavailable, match="larger than 1000 bytes"):
                await client.invoke("a", "big", b"{}", timeout_s=2)
        finally:
            await client.close()
            await runner.cleanup()

    asyncio.run(main())
