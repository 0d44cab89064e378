"""The real process: start, the token on the sidecar's side, the stream over HTTP, traces, and a quick end."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.browser import script
from tests.browser.stage import RECORDED, TOKEN, Stage


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One dashboard for the tests that leave it as it is."""
    with Stage(tmp_path_factory.mktemp("stage"), max_clients=3) as one:
        yield one


@contextlib.contextmanager
def stream(url: str) -> Iterator[Iterator[tuple[str, Any]]]:
    """The events of `/stream` as (kind, data)."""
    with httpx.Client(timeout=httpx.Timeout(10.0)) as client, client.stream("GET", f"{url}/stream") as answer:
        answer.raise_for_status()

        def events() -> Iterator[tuple[str, Any]]:
            kind = ""
            for line in answer.iter_lines():
                if line.startswith("event: "):
                    kind = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    yield kind, json.loads(line.removeprefix("data: "))

        found = events()  # a generator that nobody holds closes the stream
        yield found


def until(events: Iterator[tuple[str, Any]], wanted: str) -> Any:
    """The data of the next event of a kind."""
    return next(data for kind, data in events if kind == wanted)


def test_it_is_ready_in_two_seconds(tmp_path: Path) -> None:
    def start(folder: Path) -> float:
        folder.mkdir()
        with Stage(folder) as one:
            return one.started_in_s

    assert min(start(tmp_path / str(attempt)) for attempt in range(3)) < 2.0


def test_only_the_sidecar_may_deliver_events(stage: Stage) -> None:
    for headers in ({}, {"dapr-api-token": "wrong"}):
        answer = stage.sidecar.post("/events/traffic", json={"data": {}}, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
    for path in ("/healthz", "/readyz", "/metrics"):
        assert stage.sidecar.get(path).status_code == 200


def test_people_cannot_deliver_events(stage: Stage) -> None:
    with httpx.Client(base_url=stage.url, headers={"dapr-api-token": TOKEN}) as people:
        assert people.post("/events/traffic", json={"data": {}}).status_code == 405
        for path in ("/events/traffic", "/metrics", "/healthz"):
            assert people.get(path).status_code == 404


@pytest.mark.parametrize("topic", ["traffic", "forecasts", "decisions"])
@pytest.mark.parametrize("body", [b"", b"not json", b'{"data": 5}', b'{"data": {"t": "x"}}'])
def test_broken_events_are_dropped_not_redelivered(stage: Stage, topic: str, body: bytes) -> None:
    answer = stage.sidecar.post(f"/events/{topic}", content=body, headers={"dapr-api-token": TOKEN})
    assert answer.status_code == 200 and answer.json() == {"status": "DROP"}


def test_events_reach_an_open_page_and_a_later_one_alike(stage: Stage) -> None:
    t = round(time.time(), 3)
    second, decided = script.traffic(t, random.Random(1), 1), script.decision(t, 1, 1)
    with stream(stage.url) as events:
        until(events, "history")
        stage.post("traffic", second)
        stage.post("traffic", second)  # Redis delivers at least once
        stage.post("forecasts", script.forecast(t))
        stage.post("decisions", decided)
        assert until(events, "traffic")["arrivals"] == second["arrivals"]
        assert until(events, "forecast")["issued_at"] == t
        assert until(events, "decision")["reasons"] == decided["reasons"]
        mesh = until(events, "mesh")
    assert mesh["reachable"] and mesh["scaled"]["max"] == 4
    assert {one["spiffe_id"] for one in mesh["identities"]} >= {"spiffe://public/ns/default/routing"}
    assert "pid" not in mesh["processes"][0]
    with stream(stage.url) as events:
        history = until(events, "history")
    assert [one["t"] for one in history["rings"]["traffic"]].count(t) == 1
    assert history["rings"]["decision"][-1]["counterfactual"] == decided["counterfactual"]
    assert history["rings"]["lead"] and history["rings"]["replicas"]
    assert history["latest"]["forecast"]["model"] == "lstm" and history["latest"]["mesh"]["mesh"]


def test_a_page_too_many_is_told_to_come_back(stage: Stage) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            until(stack.enter_context(stream(stage.url)), "history")
        with httpx.stream("GET", f"{stage.url}/stream", timeout=5.0) as answer:
            assert answer.status_code == 503 and answer.headers["retry-after"]
            assert json.loads(answer.read())["type"].endswith("/overloaded")
    deadline = time.monotonic() + 5
    while "foremesh_dashboard_pages 0.0" not in stage.sidecar.get("/metrics").text:
        assert time.monotonic() < deadline, "places were not given back"
        time.sleep(0.05)


def test_traces_come_as_trees(stage: Stage) -> None:
    listed = httpx.get(f"{stage.url}/api/traces?limit=4", timeout=5.0).json()["traces"]
    assert len(listed) == 4
    assert [one["started_at"] for one in listed] == sorted(
        (one["started_at"] for one in listed), reverse=True
    )
    trace = httpx.get(f"{stage.url}/api/traces/{RECORDED['member']}", timeout=5.0).json()
    assert trace["services"] == ["gateway", "inference", "routing", "tokenization"]
    assert sum(one["linked"] for one in trace["spans"]) == 14
    assert httpx.get(f"{stage.url}/api/traces/{'0' * 32}", timeout=5.0).status_code == 404


def test_a_page_that_stops_reading_hurts_nobody(stage: Stage) -> None:
    with socket.create_connection(("127.0.0.1", stage.public_port), timeout=5) as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.sendall(f"GET /stream HTTP/1.1\r\nHost: 127.0.0.1:{stage.public_port}\r\n\r\n".encode())
        rng, began = random.Random(2), time.time() - 600
        with stream(stage.url) as events:
            until(events, "history")
            for i in range(500):
                stage.post("traffic", script.traffic(began + i, rng, 1))
            seen = 0
            while seen < 500:
                seen += next(events)[0] == "traffic"


def test_it_ends_at_once_with_pages_open(tmp_path: Path) -> None:
    with Stage(tmp_path) as one, stream(one.url) as events:
        until(events, "history")
        began = time.monotonic()
        one.process.terminate()
        assert one.process.wait(timeout=10) == 0
        assert time.monotonic() - began < 2.0


def test_without_a_supervisor_the_page_says_so(tmp_path: Path) -> None:
    one = Stage(tmp_path)
    one.extra["FOREMESH_CONTROL_SOCKET"] = str(tmp_path / "nobody.sock")
    with one, stream(one.url) as events:
        until(events, "history")
        mesh = until(events, "mesh")
    assert mesh["reachable"] is False and mesh["why"]


def test_settings_that_cannot_be_used_end_it_with_a_line(tmp_path: Path) -> None:
    one = Stage(tmp_path)
    one.extra["FOREMESH_MAX_CLIENTS"] = "none"
    with pytest.raises(RuntimeError, match=r"services\.dashboard cannot start:[\s\S]*FOREMESH_MAX_CLIENTS"):
        one.__enter__()
