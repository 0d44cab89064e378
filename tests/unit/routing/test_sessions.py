"""Sessions: acknowledged only when Redis has them, turns behind the answer, nothing lost to a pause of
Redis.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from tests.unit.common.client import problem, validate
from tests.unit.routing.upstream import Mesh, with_mesh


async def stored_turns(mesh: Mesh, session_id: str, wanted: int) -> list[dict[str, Any]]:
    """Wait until Redis itself has `wanted` turns of the session."""
    turns: list[dict[str, Any]] = []
    for _ in range(1000):
        turns = mesh.sidecar.state["sessions", session_id][0]["turns"]
        if len(turns) >= wanted:
            break
        await asyncio.sleep(0.01)
    assert len(turns) == wanted
    return turns


def test_a_session_is_acknowledged_when_redis_has_it(catalog: Path) -> None:
    async def test(mesh: Mesh) -> None:
        response = await mesh.client.post("/v1/sessions", json={})
        assert response.status_code == 201
        made = response.json()
        validate("session", made)
        assert mesh.sidecar.state["sessions", made["session_id"]][0]["created_at"] == made["created_at"]
        (saved,) = mesh.sidecar.saves[0][1]
        assert saved["metadata"] == {"ttlInSeconds": "86400"}
        found = (await mesh.client.get(f"/v1/sessions/{made['session_id']}")).json()
        validate("session", found)
        assert found == {**made, "turns": []}
        other = (await mesh.client.post("/v1/sessions")).json()
        assert other["session_id"] != made["session_id"]

    with_mesh(catalog, test)


def test_the_same_id_again_is_the_same_session(catalog: Path) -> None:
    async def test(mesh: Mesh) -> None:
        made = await mesh.client.post("/v1/sessions", json={"session_id": "trip_1"})
        await mesh.ask("four", session_id="trip_1")
        await stored_turns(mesh, "trip_1", 1)
        again = await mesh.client.post("/v1/sessions", json={"session_id": "trip_1"})
        assert (again.status_code, again.json()) == (201, made.json())
        assert len((await mesh.client.get("/v1/sessions/trip_1")).json()["turns"]) == 1

    with_mesh(catalog, test)


def test_without_redis_there_is_no_acknowledgement(catalog: Path) -> None:
    async def test(mesh: Mesh) -> None:
        mesh.sidecar.down = True
        response = await mesh.client.post("/v1/sessions", json={"session_id": "a"})
        problem(response, 503, "unavailable")
        assert response.headers["retry-after"] == "2"
        problem(await mesh.client.get("/v1/sessions/a"), 503, "unavailable")
        mesh.sidecar.down = False
        problem(await mesh.client.get("/v1/sessions/a"), 404, "not-found")
        reads = mesh.sidecar.reads["sessions"]
        problem(await mesh.client.get("/v1/sessions/a%20b"), 404, "not-found")
        assert mesh.sidecar.reads["sessions"] == reads
        response = await mesh.client.post("/v1/sessions", json={"session_id": "a b"})
        assert problem(response, 400, "out-of-range")["field"] == "session_id"

    with_mesh(catalog, test)


def test_the_last_ten_turns_are_kept_in_order(catalog: Path) -> None:
    async def test(mesh: Mesh) -> None:
        await mesh.client.post("/v1/sessions", json={"session_id": "s"})
        for n in range(1, 14):
            assert (await mesh.ask("x" * n, session_id="s")).status_code == 200
            if n == 4:
                await stored_turns(mesh, "s", 4)
        told = (await mesh.client.get("/v1/sessions/s")).json()
        validate("session", told)
        assert [turn["text"] for turn in told["turns"]] == ["x" * n for n in range(4, 14)]
        assert told["turns"][0]["intent"] == "intent_4"
        turns = await stored_turns(mesh, "s", 10)
        for _ in range(500):
            turns = mesh.sidecar.state["sessions", "s"][0]["turns"]
            if turns == told["turns"]:
                break
            await asyncio.sleep(0.01)
        assert turns == told["turns"]

    with_mesh(catalog, test)


def test_turns_of_many_sessions_at_once_do_not_mix(catalog: Path) -> None:
    async def test(mesh: Mesh) -> None:
        for n in range(20):
            await mesh.client.post("/v1/sessions", json={"session_id": f"s{n}"})
        await asyncio.gather(
            *(mesh.ask("x" * (n + 1), session_id=f"s{n}") for n in range(20) for _ in range(3))
        )
        for n in range(20):
            turns = await stored_turns(mesh, f"s{n}", 3)
            assert {turn["text"] for turn in turns} == {"x" * (n + 1)}

    with_mesh(catalog, test)


def test_turns_wait_for_a_redis_that_pauses(catalog: Path) -> None:
    async def test(mesh: Mesh) -> None:
        await mesh.client.post("/v1/sessions", json={"session_id": "s"})
        mesh.sidecar.down = True
        for n in range(1, 4):
            assert (await mesh.ask("x" * n, session_id="s")).status_code == 200
        await asyncio.sleep(0.3)
        mesh.sidecar.down = False
        turns = await stored_turns(mesh, "s", 3)
        assert [turn["text"] for turn in turns] == ["x", "xx", "xxx"]

    with_mesh(catalog, test)


def test_another_writer_is_not_overwritten(catalog: Path) -> None:
    async def test(mesh: Mesh) -> None:
        await mesh.client.post("/v1/sessions", json={"session_id": "s"})
        session, version = mesh.sidecar.state["sessions", "s"]
        other = {"text": "other", "intent": "i", "score": 0.5, "t": 1.0}
        mesh.sidecar.delay_s = 0.05
        await mesh.ask("mine", session_id="s")
        await asyncio.sleep(0.08)  # the writer has read by now, and has not saved yet
        mesh.sidecar.state["sessions", "s"] = ({**session, "turns": [other]}, version + 1)
        turns = await stored_turns(mesh, "s", 2)
        assert [turn["text"] for turn in turns] == ["other", "mine"]

    with_mesh(catalog, test)


def test_turns_of_a_session_that_nobody_made_are_dropped(catalog: Path) -> None:
    async def test(mesh: Mesh) -> None:
        assert (await mesh.ask("four", session_id="never")).status_code == 200
        await asyncio.sleep(0.3)
        assert ("sessions", "never") not in mesh.sidecar.state
        problem(await mesh.client.get("/v1/sessions/never"), 404, "not-found")

    with_mesh(catalog, test)


def test_what_waits_is_bounded(catalog: Path) -> None:
    async def test(mesh: Mesh) -> None:
        for n in range(4):
            await mesh.client.post("/v1/sessions", json={"session_id": f"s{n}"})
        mesh.sidecar.down = True
        for n in range(4):
            await mesh.ask("four", session_id=f"s{n}")
        await asyncio.sleep(0.2)
        mesh.sidecar.down = False
        await stored_turns(mesh, "s3", 1)
        await stored_turns(mesh, "s2", 1)
        assert mesh.sidecar.state["sessions", "s0"][0]["turns"] == []

    with_mesh(catalog, test, sessions_waiting=2)
