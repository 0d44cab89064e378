"""Routing between its neighbours: answers, coalescing, deadlines, overload, and answers from the cache."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from services.common.catalog import read_catalog
from services.routing.answers import state_key
from tests.unit.common.catalog import TAGS, write_card, write_entry
from tests.unit.common.client import TRACEPARENT, problem, validate
from tests.unit.routing.upstream import Mesh, with_mesh


def item(text: str, **more: object) -> dict[str, object]:
    return {"body": f'{{"text":"{text}"}}', **more}


def test_an_answer_says_who_answered_and_where_the_time_went(catalog: Path) -> None:
    async def test(mesh: Mesh) -> None:
        response = await mesh.client.post(
            "/v1/intents", content=b'{"text":"  four ","top_k":2}', headers={"traceparent": TRACEPARENT}
        )
        answer = response.json()
        validate("intents-response", answer)
        assert (answer["intent"], answer["score"], len(answer["alternatives"])) == ("intent_4", 0.5, 2)
        assert (answer["model"], answer["tier"], answer["version"]) == ("intent", "tiny", "1")
        assert (answer["replica"], answer["degraded"]) == ("inference-1", False)
        assert answer["trace_id"] == TRACEPARENT.split("-")[1]
        timings = answer["timings_ms"]
        assert 0 < timings["tokenize"] <= timings["total"]
        assert (timings["queue"], timings["infer"]) == (0.1, 0.2)
        assert (await mesh.ask("four")).json()["trace_id"] is None

    with_mesh(catalog, test)


def test_a_coalesced_call_is_one_call_per_hop_and_keeps_its_order(catalog: Path) -> None:
    async def test(mesh: Mesh) -> None:
        outcomes = await mesh.coalesced(*[item("x" * n) for n in range(1, 61)])
        assert [outcome["body"]["intent"] for outcome in outcomes] == [f"intent_{n}" for n in range(1, 61)]
        assert mesh.upstream.sizes("tokenize") == mesh.upstream.sizes("infer") == [60]

    with_mesh(catalog, test)


def test_concurrent_single_requests_share_calls(catalog: Path) -> None:
    async def test(mesh: Mesh) -> None:
        mesh.upstream.delay_s = 0.01
        sizes = [1 + n % 50 for n in range(300)]
        responses = await asyncio.gather(*(mesh.ask("x" * size) for size in sizes))
        assert [response.json()["intent"] for response in responses] == [f"intent_{size}" for size in sizes]
        assert len(mesh.upstream.sizes("tokenize")) < 30
        assert max(mesh.upstream.sizes("tokenize")) <= 64

    with_mesh(catalog, test)


def test_the_budget_travels_and_the_shorter_one_counts(catalog: Path) -> None:
    async def test(mesh: Mesh) -> None:
        await mesh.coalesced(item("one", deadline_ms=800))
        await mesh.coalesced({"body": '{"text":"two","latency_budget_ms":300}', "deadline_ms": 9000})
        await mesh.coalesced(item("three", deadline_ms=60000))
        await mesh.ask("four", latency_budget_ms=50000)
        sent = [body["items"][0]["deadline_ms"] for name, body, _ in mesh.upstream.calls if name == "infer"]
        for left, budget in zip(sent, (800, 300, 5000, 50000), strict=True):
            assert budget / 2 < left < budget

    with_mesh(catalog, test)


def test_a_budget_that_runs_out_is_a_504_within_it(catalog: Path) -> None:
    async def test(mesh: Mesh) -> None:
        mesh.upstream.delay_s = 2.0
        start = time.perf_counter()
        response = await mesh.ask("four", latency_budget_ms=60)
        assert time.perf_counter() - start < 1.0
        assert "60 ms" in problem(response, 504, "deadline-exceeded")["detail"]
        (late,) = await mesh.coalesced(item("five", deadline_ms=-3))
        assert late["status"] == 504

    with_mesh(catalog, test)


def test_full_queues_are_503s_with_retry_after(catalog: Path) -> None:
    async def test(mesh: Mesh) -> None:
        mesh.upstream.item_status = 503
        response = await mesh.ask("four")
        problem(response, 503, "overloaded")
        assert response.headers["retry-after"] == "3"
        (outcome,) = await mesh.coalesced(item("four"))
        assert (outcome["status"], outcome["retry_after_s"]) == (503, 2.5)
        mesh.upstream.item_status = 200
        mesh.upstream.delay_s = 0.1
        outcomes = await mesh.coalesced(*[item(f"text {n}") for n in range(20)])
        assert [outcome["status"] for outcome in outcomes] == [200] * 8 + [503] * 12
        assert all(outcome["body"]["type"].endswith("/overloaded") for outcome in outcomes[8:])
        assert all(outcome["retry_after_s"] > 0 for outcome in outcomes[8:])

    with_mesh(catalog, test, queue_items=8)


def test_a_refusal_of_the_model_is_not_the_users_fault(catalog: Path) -> None:
    async def test(mesh: Mesh) -> None:
        mesh.upstream.item_status = 400
        problem(await mesh.ask("four"), 500, "refused-by-model")

    with_mesh(catalog, test)


@pytest.mark.parametrize("fault", ["tokenize", "infer", "garbage", "short"])
def test_out_of_reach_gives_the_cached_answer_or_a_503(catalog: Path, fault: str) -> None:
    async def test(mesh: Mesh) -> None:
        assert (await mesh.ask("four", top_k=5)).json()["degraded"] is False
        if fault == "tokenize":
            mesh.upstream.tokenize_status = 500
        elif fault == "infer":
            mesh.upstream.infer_status = 500
        else:
            mesh.upstream.garbage = (
                b"<html>"
                if fault == "garbage"
                else b'{"model":"intent","tier":"tiny","version":"1","replica":"r","items":[]}'
            )
        answer = (await mesh.ask("four", top_k=2)).json()
        validate("intents-response", answer)
        assert (answer["intent"], answer["degraded"], len(answer["alternatives"])) == ("intent_4", True, 2)
        assert answer["replica"] == "routing"
        response = await mesh.ask("another")
        problem(response, 503, "unavailable")
        assert response.headers["retry-after"] == "1"
        status = (await mesh.client.get("/v1/status")).json()
        assert status["status"] == "degraded"
        mesh.upstream.tokenize_status = mesh.upstream.infer_status = 200
        mesh.upstream.garbage = b""
        assert (await mesh.ask("another")).json()["degraded"] is False
        assert (await mesh.client.get("/v1/status")).json()["status"] == "ok"

    with_mesh(catalog, test, redis=False)


def test_an_overloaded_service_is_not_taken_for_one_out_of_reach(catalog: Path) -> None:
    async def test(mesh: Mesh) -> None:
        await mesh.ask("four")
        mesh.upstream.infer_status = 503
        problem(await mesh.ask("four"), 503, "overloaded")

    with_mesh(catalog, test)


def test_kept_answers_grow_stale(catalog: Path) -> None:
    async def test(mesh: Mesh) -> None:
        await mesh.ask("four")
        mesh.upstream.infer_status = 500
        assert (await mesh.ask("four")).json()["degraded"] is True
        await asyncio.sleep(1.05)
        problem(await mesh.ask("four"), 503, "unavailable")

    with_mesh(catalog, test, answers_ttl_s=1, redis=False)


def test_answers_are_mirrored_to_redis_in_bulk_and_read_only_when_needed(catalog: Path) -> None:
    card = read_catalog(catalog)["intent.tiny"]
    state: dict[tuple[str, str], tuple[object, int]] = {}

    async def first(mesh: Mesh) -> None:
        for _ in range(3):
            await mesh.coalesced(*[item("x" * n) for n in range(1, 31)])
        for _ in range(300):
            if mesh.sidecar.saves:
                break
            await asyncio.sleep(0.01)
        ((store, saved),) = mesh.sidecar.saves
        assert (store, len(saved)) == ("answers", 30)
        assert saved[0]["key"] == state_key(card, "1", "x")
        assert saved[0]["metadata"] == {"ttlInSeconds": "600"}
        assert mesh.sidecar.reads["answers"] == 0
        state.update(mesh.sidecar.state)

    async def restarted(mesh: Mesh) -> None:
        mesh.sidecar.state.update(state)
        mesh.upstream.infer_status = 500
        outcomes = await mesh.coalesced(*[item("x" * n) for n in range(25, 35)])
        assert [outcome["status"] for outcome in outcomes] == [200] * 6 + [503] * 4
        assert outcomes[0]["body"]["intent"] == "intent_25" and outcomes[0]["body"]["degraded"] is True
        assert mesh.sidecar.reads["answers"] == 1
        mesh.sidecar.delay_s = 1.5
        start = time.perf_counter()
        problem(await mesh.ask("xxx"), 503, "unavailable")
        assert time.perf_counter() - start < 1.2

    with_mesh(catalog, first)
    with_mesh(catalog, restarted)


def test_a_lost_redis_does_not_hurt_answers(catalog: Path) -> None:
    async def test(mesh: Mesh) -> None:
        mesh.sidecar.down = True
        outcomes = await mesh.coalesced(*[item("x" * n) for n in range(1, 9)])
        assert {outcome["status"] for outcome in outcomes} == {200}
        assert (await mesh.ask("four", session_id="s")).json()["degraded"] is False

    with_mesh(catalog, test)


def test_models_come_from_the_registry_else_from_the_catalog(catalog: Path) -> None:
    async def test(mesh: Mesh) -> None:
        (model,) = (await mesh.client.get("/v1/models")).json()["models"]
        assert (model["model"], model["tier"], model["served"], model["classes"]) == (
            "intent",
            "tiny",
            False,
            64,
        )
        status = (await mesh.client.get("/v1/status")).json()
        assert (status["status"], status["models"], status["replica"]) == ("ok", ["intent.tiny"], "routing")

    async def registered(mesh: Mesh) -> None:
        mesh.sidecar.state["registry", "intent.tiny"] = ({"registered_by": "inference-2"}, 1)
        (model,) = (await mesh.client.get("/v1/models")).json()["models"]
        assert (model["served"], model["registered_by"]) == (True, "inference-2")

    async def away(mesh: Mesh) -> None:
        mesh.sidecar.down = True
        (model,) = (await mesh.client.get("/v1/models")).json()["models"]
        assert model["served"] is None

    for case in (test, registered, away):
        with_mesh(catalog, case)


def test_the_openapi_document_has_every_route(catalog: Path) -> None:
    async def test(mesh: Mesh) -> None:
        document = (await mesh.client.get("/openapi.json")).json()
        assert set(document["paths"]) == {
            "/v1/intents",
            "/internal/intents",
            "/v1/embeddings",
            "/v1/summaries",
            "/v1/sessions",
            "/v1/sessions/{session_id}",
            "/v1/models",
            "/v1/status",
        }
        post = document["paths"]["/v1/intents"]["post"]
        asked = post["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        assert asked == "#/components/schemas/intents-request"
        schemas = document["components"]["schemas"]
        assert [one["required"] for one in schemas["intents-request"]["oneOf"]] == [["text"], ["texts"]]
        for reference in references(document):
            place: Any = document
            for step in reference.removeprefix("#/").split("/"):
                place = place[step]
            assert place, f"{reference} leads nowhere"

    with_mesh(catalog, test)


def references(document: Any) -> list[str]:
    if isinstance(document, list):
        return [reference for one in document for reference in references(one)]
    if not isinstance(document, dict):
        return []
    own = [document["$ref"]] if isinstance(document.get("$ref"), str) else []
    return own + [reference for one in document.values() for reference in references(one)]


def tiers_catalog(folder: Path) -> Path:
    """Three tiers of one model: accuracies, and p50s that a slow upstream multiplies."""
    for tier, accuracy, p50_ms, size_mb in (
        ("tiny", 0.9, 0.1, 0.6),
        ("mini", 0.92, 1.0, 7.0),
        ("base", 0.93, 4.0, 23.0),
    ):
        write_entry(folder, tier=tier, accuracy={"test": accuracy}, p50_ms=p50_ms, size_mb=size_mb)
    return folder


async def until_held(mesh: Mesh, *tiers: str) -> None:
    """Let the registry say that a replica holds `tiers`, and routing have read it."""
    for tier in tiers:
        mesh.sidecar.state["registry", f"intent.{tier}"] = ({"registered_by": "inference-1"}, 1)
    read = mesh.sidecar.reads["registry"]
    for _ in range(400):
        if mesh.sidecar.reads["registry"] >= read + 2:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the registry is not read")


def test_a_budget_and_a_floor_choose_among_the_tiers_that_replicas_hold(tmp_path: Path) -> None:
    async def test(mesh: Mesh) -> None:
        async def tier(**asked: Any) -> str:
            answer = (await mesh.ask("four", **asked)).json()
            validate("intents-response", answer)
            assert answer["reason"]
            found: str = answer["tier"]
            return found

        assert await tier(latency_budget_ms=1000) == "tiny", "nobody holds another one yet"
        await until_held(mesh, "tiny", "mini", "base")
        assert await tier() == "tiny"
        assert await tier(latency_budget_ms=1000) == "base"
        assert await tier(min_accuracy=0.91, latency_budget_ms=1000) == "base"
        assert await tier(min_accuracy=0.92) in ("mini", "base")
        assert await tier(model="intent.mini", latency_budget_ms=1000) == "mini"
        assert await tier(model="intent.base", min_accuracy=0.5) == "base"
        response = await mesh.ask("four", min_accuracy=0.99)
        assert problem(response, 400, "out-of-range")["field"] == "min_accuracy"
        problem(await mesh.ask("four", model="intent.huge"), 404, "unknown-model")
        # base is measured to be slow, and no longer chosen where time is short.
        mesh.upstream.delay_of["base"] = 0.15
        for _ in range(4):
            await tier(model="intent.base")
        assert await tier(latency_budget_ms=200) != "base"
        assert await tier(latency_budget_ms=5000) == "base"

    with_mesh(tiers_catalog(tmp_path), test, watch_s=0.1)


def test_a_model_without_the_preferred_tier_says_which_one_answers(tmp_path: Path) -> None:
    write_entry(tmp_path, tier="mini")

    async def test(mesh: Mesh) -> None:
        answer = (await mesh.ask("four")).json()
        assert (answer["tier"], answer["reason"]) == (
            "mini",
            "the smallest, for the preferred one is not there",
        )

    with_mesh(tmp_path, test)


def test_a_full_queue_degrades_to_a_smaller_tier_before_it_sheds_and_comes_back(tmp_path: Path) -> None:
    async def test(mesh: Mesh) -> None:
        await until_held(mesh, "tiny", "mini", "base")
        mesh.upstream.delay_of["base"] = 0.3

        async def burst(count: int) -> list[dict[str, Any]]:
            body = '{"text":"four","latency_budget_ms":50000,"min_accuracy":0.91}'
            outcomes = await asyncio.gather(*(mesh.coalesced({"body": body}) for _ in range(count)))
            return [outcome for (outcome,) in outcomes]

        assert {one["body"]["tier"] for one in await burst(2)} == {"base"}
        first = asyncio.create_task(burst(60))
        await asyncio.sleep(0.05)  # the queue before base is full now
        later = await burst(10)
        assert {one["status"] for one in later} == {200}
        assert {(one["body"]["tier"], one["body"]["degraded"]) for one in later} == {("mini", True)}
        named = (await mesh.ask("four", model="intent.tiny")).json()
        assert (named["tier"], named["reason"]) == ("tiny", "asked for by name"), "pressure has no say"
        assert "base would be chosen" in later[0]["body"]["reason"]
        await first
        deadline = time.perf_counter() + 20
        while (one := (await burst(1))[0]["body"])["degraded"]:
            assert time.perf_counter() < deadline
            await asyncio.sleep(0.2)
        assert one["tier"] == "base"

    with_mesh(tiers_catalog(tmp_path), test, watch_s=0.1, queue_items=40, inference_calls=1, max_batch=8)


def test_an_answer_of_the_version_before_is_never_served(tmp_path: Path) -> None:
    folder = write_entry(tmp_path)

    async def test(mesh: Mesh) -> None:
        assert (await mesh.ask("four")).json()["degraded"] is False
        mesh.upstream.infer_status = 500
        assert (await mesh.ask("four")).json()["degraded"] is True
        write_card(folder, version="2")
        await asyncio.sleep(0.5)
        problem(await mesh.ask("four"), 503, "unavailable")

    with_mesh(tmp_path, test, redis=False, watch_s=0.05)


def parsers(tmp_path: Path) -> Path:
    write_entry(tmp_path, model="command", tags=TAGS)
    return tmp_path


def test_slots_are_kept_with_the_answer_for_the_time_without_inference(tmp_path: Path) -> None:
    async def test(mesh: Mesh) -> None:
        fresh = (await mesh.ask("  on the light", model="command")).json()
        assert fresh["slots"] == [{"type": "all", "value": "on the light", "start": 2, "end": 14}]
        mesh.upstream.infer_status = 500
        kept = (await mesh.ask("on the light ", model="command")).json()
        assert kept["degraded"] and kept["slots"] == [
            {"type": "all", "value": "on the light", "start": 0, "end": 12}
        ]

    with_mesh(parsers(tmp_path), test)


@pytest.mark.parametrize(
    ("offsets", "marks"),
    [
        ([], []),
        ([[[0, 2], [2, 4]]], []),
        ([[[0, 400]]], []),
        (None, [{"type": "all", "first": 0, "last": 1}]),
        (None, [{"type": "all", "first": 1, "last": 0}]),
        (None, [{"type": "all", "first": -1, "last": 0}]),
    ],
    ids=["no-offsets", "too-many", "behind-the-text", "behind-the-tokens", "backwards", "before-the-tokens"],
)
def test_slots_that_cannot_be_are_a_503_and_no_answer(tmp_path: Path, offsets: Any, marks: Any) -> None:
    async def test(mesh: Mesh) -> None:
        mesh.upstream.offsets, mesh.upstream.marks = offsets, marks
        problem(await mesh.ask("four", model="command"), 503, "unavailable")

    with_mesh(parsers(tmp_path), test)
