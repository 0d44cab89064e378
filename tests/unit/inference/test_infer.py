"""Inference over HTTP: items that fail alone, what is refused, registration."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from services.common.catalog import CatalogError
from services.inference.app import create
from services.inference.settings import Settings
from tests.unit.common.catalog import LABELS, MAX_TOKENS, WORDS, write_entry
from tests.unit.common.client import TOKEN, TRACEPARENT, problem, validate, with_app
from tests.unit.common.sidecar import TOKEN as SIDECAR_TOKEN
from tests.unit.common.sidecar import FakeSidecar


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("catalog")
    write_entry(path)
    return path


def settings(catalog: Path, **more: Any) -> Settings:
    return Settings(catalog=catalog, app_api_token=SecretStr(TOKEN), instance="inference-7", **more)


async def infer(client: httpx.AsyncClient, *items: Any) -> list[dict[str, Any]]:
    body = {"model": "intent", "tier": "tiny", "items": list(items)}
    response = await client.post("/v1/infer", json=body, headers={"traceparent": TRACEPARENT})
    assert response.status_code == 200, response.text
    answer = response.json()
    validate("infer-response", answer)
    assert [answer[key] for key in ("model", "tier", "version", "replica")] == [
        "intent",
        "tiny",
        "1",
        "inference-7",
    ]
    outcomes: list[dict[str, Any]] = answer["items"]
    return outcomes


def item(*ids: Any, top_k: Any = 3, deadline_ms: Any = 5000) -> dict[str, Any]:
    return {"ids": list(ids), "top_k": top_k, "deadline_ms": deadline_ms}


def test_items_are_answered_in_order(catalog: Path) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        one, two, again = await infer(client, item(5, 6), item(7, top_k=10), item(5, 6))
        assert one["intent"] in LABELS and len(one["alternatives"]) == 3
        assert len(two["alternatives"]) == 10
        assert (one["intent"], one["score"]) == (again["intent"], pytest.approx(again["score"], abs=1e-5))
        assert await infer(client) == []

    with_app(create(settings(catalog)), test)


def test_each_bad_item_fails_alone(catalog: Path) -> None:
    bad: list[Any] = [
        item(),
        item(-1),
        item(len(WORDS)),
        item(10**25),
        item(*[1] * (MAX_TOKENS + 1)),
        item("5"),
        item(True),
        item(1.5),
        item(5, top_k=0),
        item(5, top_k=11),
        item(5, top_k="3"),
        item(5, deadline_ms="soon"),
        {"ids": "5"},
        {},
        7,
        None,
    ]

    async def test(client: httpx.AsyncClient) -> None:
        (alone,) = await infer(client, item(5, 6))
        for wrong in bad:
            before, refused, after = await infer(client, item(5, 6), wrong, item(5, 6))
            assert before["intent"] == after["intent"] == alone["intent"]
            assert refused["status"] == 400 and refused["detail"], wrong
        outcomes = await infer(client, *bad, item(5, 6, deadline_ms=-1), item(5, 6))
        assert [outcome["status"] for outcome in outcomes] == [400] * len(bad) + [504, 200]

    with_app(create(settings(catalog)), test)


def test_bad_calls_are_refused_whole(catalog: Path) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        post = client.post
        problem(await post("/v1/infer", content=b"{"), 400, "bad-json")
        response = await post("/v1/infer", json={"model": "intent", "tier": "tiny"})
        assert problem(response, 400, "missing-field")["field"] == "items"
        response = await post("/v1/infer", json={"model": "intent", "tier": 1, "items": []})
        assert problem(response, 400, "wrong-type")["field"] == "tier"
        response = await post("/v1/infer", json={"model": "intent", "tier": "tiny", "items": [item(5)] * 257})
        assert problem(response, 400, "out-of-range")["field"] == "items"
        response = await post("/v1/infer", json={"model": "intent", "tier": "mini", "items": []})
        assert problem(response, 404, "unknown-model")["known"] == ["intent.tiny"]

    with_app(create(settings(catalog)), test)


def test_concurrent_calls_are_not_mixed_up_and_the_queue_sheds(catalog: Path) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        alone = [(await infer(client, item(n)))[0]["intent"] for n in range(2, 40)]
        calls = [infer(client, item(n), item(41 - n)) for n in range(2, 40)]
        for n, outcomes in enumerate(await asyncio.gather(*calls)):
            for outcome, expected in zip(outcomes, (alone[n], alone[37 - n]), strict=True):
                assert outcome["status"] in (200, 503)
                assert outcome["status"] == 503 or outcome["intent"] == expected
        outcomes = await infer(client, *[item(5)] * 20)
        assert [outcome["status"] for outcome in outcomes] == [200] * 16 + [503] * 4
        assert all(outcome["retry_after_s"] > 0 for outcome in outcomes[16:])

    with_app(create(settings(catalog, queue_items=16)), test)


def test_ids_of_another_tokenizer_are_refused(catalog: Path) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        body = {"model": "intent", "tier": "tiny", "items": [item(5)]}
        refused = await client.post("/v1/infer", json=body | {"tokenizer": "0" * 16})
        wanted = problem(refused, 409, "tokenizer-changed")["tokenizer"]
        assert len(wanted) == 16
        assert (await client.post("/v1/infer", json=body | {"tokenizer": wanted})).status_code == 200

    with_app(create(settings(catalog)), test)


def test_another_model_of_the_catalog_is_loaded_when_it_is_asked_for(tmp_path: Path) -> None:
    for tier in ("tiny", "mini"):
        write_entry(tmp_path, tier=tier)

    async def test(client: httpx.AsyncClient) -> None:
        async def loaded() -> dict[str, bool]:
            models = (await client.get("/v1/models")).json()["models"]
            return {model["tier"]: model["loaded"] for model in models}

        assert await loaded() == {"mini": False, "tiny": True}
        response = await client.post(
            "/v1/infer", json={"model": "intent", "tier": "mini", "items": [item(5)]}
        )
        assert (response.status_code, response.json()["tier"]) == (200, "mini")
        assert await loaded() == {"mini": True, "tiny": True}

    with_app(create(settings(tmp_path)), test)


def test_what_happened_is_in_the_metrics(catalog: Path) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        await infer(client, item(5), item(-1))
        text = (await client.get("/metrics")).text
        for name in (
            "foremesh_inference_queue_depth ",
            'foremesh_inference_batch_size_bucket{le="1.0"}',
            "foremesh_inference_run_seconds_sum",
            "foremesh_inference_busy_seconds_total",
            'foremesh_inference_items_total{outcome="answered"}',
            'foremesh_inference_items_total{outcome="refused"}',
        ):
            assert name in text

    with_app(create(settings(catalog)), test)


def test_a_replica_registers_its_model_and_a_registry_that_is_away_does_not_hurt(catalog: Path) -> None:
    async def main() -> None:
        async with asyncio.timeout(20), FakeSidecar() as sidecar:
            sidecar.down = True
            app = create(
                settings(catalog, dapr_http_port=sidecar.port, dapr_api_token=SecretStr(SIDECAR_TOKEN))
            )
            transport = httpx.ASGITransport(app)
            headers = {"dapr-api-token": TOKEN}
            async with (
                app.router.lifespan_context(app),
                httpx.AsyncClient(transport=transport, base_url="http://app", headers=headers) as client,
            ):
                assert (await client.get("/readyz")).status_code == 200
                assert (await infer(client, item(5)))[0]["status"] == 200
                sidecar.down = False
                for _ in range(500):
                    if sidecar.saves:
                        break
                    await asyncio.sleep(0.01)
            ((store, (saved,)),) = sidecar.saves
            assert (store, saved["key"]) == ("registry", "intent.tiny")
            assert saved["value"]["registered_by"] == "inference-7" and saved["value"]["classes"] == 64
            assert int(saved["metadata"]["ttlInSeconds"]) > 60

    asyncio.run(main())


def test_a_missing_entry_is_named_with_those_there_are(catalog: Path) -> None:
    with pytest.raises(CatalogError, match=r"'intent\.tyni' is not in the catalog .*: tiny; set FOREMESH_"):
        create(settings(catalog, tier="tyni"))
