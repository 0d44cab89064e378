"""The service as a process of its own: what it does, and what it does when its neighbours fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.autoscaler.conftest import Sidecar, Supervisor
from tests.unit.autoscaler.running import REPOSITORY, codes, environment, keeps_contract, running, wait_until


def test_it_tells_every_tick_and_scales_on_what_it_hears(
    supervisor: Supervisor, sidecar: Sidecar, tmp_path: Path
) -> None:
    with running(supervisor, sidecar, tmp_path) as service:
        # Nothing was heard yet: it says so and holds.
        wait_until(lambda: len(sidecar.published) >= 3)
        assert {codes(decision)[0] for decision in sidecar.published} == {"metric-gap"}
        # Traffic of one replica, a forecast of three: it scales before the traffic is there.
        service.traffic(50, seconds=10)
        service.forecast(250)
        wait_until(lambda: supervisor.scaled == [3])
        wait_until(lambda: sidecar.state.get("decision.latest", {}).get("previous") == 3)

        changed = next(
            decision for decision in sidecar.published if decision["previous"] == 1 != decision["wanted"]
        )
        assert (changed["app"], changed["policy"], changed["applied"]) == ("inference", "predictive", True)
        assert "250 req/s are expected" in changed["reasons"][0]["text"]
        assert "without this step: 1 replica would serve" in changed["counterfactual"]
        assert changed["observation"]["start_delay_s"] == 1.5
        for decision in sidecar.published:
            keeps_contract("decisions", decision)

        # Stored behind the loop: the last one each time, the list when something changed.
        assert changed in sidecar.state["decisions.recent"]
        assert ["decision.latest"] in sidecar.saves
        # The same over HTTP.
        shown = service.http.get("/v1/decisions").json()
        assert shown["policy"] == "predictive"
        assert changed in shown["decisions"]
        metrics = service.http.get("/metrics").text
        assert 'foremesh_replicas_wanted{app="inference"} 3.0' in metrics
        assert 'foremesh_replica_start_delay_seconds{app="inference"} 1.5' in metrics
        assert 'foremesh_decisions_total{action="up",app="inference",policy="predictive"} 1.0' in metrics
        # One line for the one change, with its reasons.
        scaled = [line for line in service.lines() if line["message"] == "scaled"]
        assert [(line["previous"], line["wanted"]) for line in scaled] == [(1, 3)]
        assert "250 req/s are expected" in scaled[0]["reasons"][0]


def test_it_is_ready_in_two_seconds_and_ends_when_told(supervisor: Supervisor, tmp_path: Path) -> None:
    ready_s = []
    for _ in range(3):  # the best of three: other tests may be busy on the same cores
        with running(supervisor, None, tmp_path) as service:
            ready_s.append(service.ready_s)
            service.process.terminate()
            assert service.process.wait(5) == 0
        if ready_s[-1] < 2.0:
            return
    pytest.fail(f"ready after {ready_s} s")


def test_without_the_actuator_it_holds_and_goes_on_when_it_is_back(
    supervisor: Supervisor, sidecar: Sidecar, tmp_path: Path
) -> None:
    supervisor.wanted = 2
    with running(supervisor, sidecar, tmp_path) as service:
        wait_until(lambda: len(sidecar.published) > 0)
        supervisor.down()
        wait_until(lambda: codes(sidecar.published[-1]) == ["actuator-unreachable"])
        assert (sidecar.published[-1]["wanted"], sidecar.published[-1]["applied"]) == (2, False)
        service.traffic(50, seconds=10)
        service.forecast(300)
        supervisor.up()
        wait_until(lambda: supervisor.scaled == [4])
        # A supervisor that hangs is the same as none, and the loop goes on ticking.
        supervisor.answer_s = 3.0
        wait_until(lambda: "no answer in 0.8 s" in sidecar.published[-1]["reasons"][0]["text"])
        assert service.http.get("/readyz").status_code == 200
        said = [line["message"] for line in service.lines()]
        assert said.count("actuator failed, holding") == 2


def test_a_refused_count_is_tried_again_and_said_once(
    supervisor: Supervisor, sidecar: Sidecar, tmp_path: Path
) -> None:
    class Stubborn(Supervisor):
        """Says that 9 are allowed and takes 4."""

        def document(self) -> dict[str, Any]:
            return super().document() | {"max": 9}

    supervisor.down()
    stubborn = Stubborn(supervisor.socket)
    stubborn.up()
    try:
        with running(stubborn, sidecar, tmp_path, FOREMESH_POLICY="static:7") as service:
            wait_until(lambda: len(sidecar.published) >= 5)
            assert {(d["wanted"], d["previous"], d["applied"]) for d in sidecar.published} == {(7, 1, False)}
            assert [line["wanted"] for line in service.lines() if line["message"] == "not scaled"] == [7]
    finally:
        stubborn.close()


def test_after_kill_9_it_takes_over_what_it_finds_and_takes_nothing_away_at_first(
    supervisor: Supervisor, sidecar: Sidecar, tmp_path: Path
) -> None:
    with running(supervisor, sidecar, tmp_path, FOREMESH_POLICY="static:3") as service:
        wait_until(lambda: "decisions.recent" in sidecar.state and supervisor.scaled == [3])
        wait_until(lambda: any(d["wanted"] == 3 for d in sidecar.state["decisions.recent"]))
        os.kill(service.process.pid, signal.SIGKILL)
        service.process.wait(5)
    before = sidecar.published[0]
    del sidecar.published[:]
    # Restarted with a policy that wants one: three stay until the guard is over.
    with running(
        supervisor, sidecar, tmp_path, FOREMESH_POLICY="static:1", FOREMESH_START_GUARD_S="1.5"
    ) as service:
        wait_until(lambda: supervisor.scaled == [3, 1])
        guarded = [decision for decision in sidecar.published if "start-guard" in codes(decision)]
        assert len(guarded) >= 3
        assert {decision["wanted"] for decision in guarded} == {3}
        assert guarded[-1]["t"] - sidecar.published[0]["t"] > 1.2
        # What the former run said is shown still.
        assert before in service.http.get("/v1/decisions").json()["decisions"]


def test_the_policy_can_be_changed_while_it_runs(
    supervisor: Supervisor, sidecar: Sidecar, tmp_path: Path
) -> None:
    with running(supervisor, sidecar, tmp_path) as service:
        reply = service.http.put("/v1/policy", json={"policy": "static:4"})
        assert reply.json() == {"policy": "static:4", "previous": "predictive"}
        wait_until(lambda: supervisor.scaled == [4])
        assert service.http.get("/v1/policy").json() == {
            "policy": "static:4",
            "choices": ["predictive", "hpa", "kpa", "keda", "persistence", "trend", "static:N"],
        }
        for body, slug in (
            (b'{"policy": "hpaa"}', "unknown-policy"),
            (b'{"policy": 4}', "wrong-type"),
            (b'["hpa"]', "wrong-type"),
            (b"{}", "wrong-type"),
            (b"hpa", "bad-json"),
            (b"\xff\x00", "bad-json"),
        ):
            reply = service.http.put("/v1/policy", content=body)
            assert reply.status_code == 400
            assert reply.headers["content-type"] == "application/problem+json"
            assert reply.json()["type"] == f"https://foremesh.dev/problems/{slug}"
        refused = service.http.put("/v1/policy", json={"policy": ""}).text
        assert "predictive, hpa, kpa, keda, persistence, trend, static:N" in refused
        assert service.http.get("/v1/policy").json()["policy"] == "static:4"


def test_nobody_enters_without_the_token(supervisor: Supervisor, tmp_path: Path) -> None:
    with running(supervisor, None, tmp_path) as service:
        for token in ({"dapr-api-token": ""}, {"dapr-api-token": "wrong"}):
            for method, path in (
                ("GET", "/v1/decisions"),
                ("PUT", "/v1/policy"),
                ("POST", "/events/traffic"),
                ("POST", "/events/forecasts"),
            ):
                reply = service.http.request(method, path, headers=token, json={})
                assert reply.status_code == 401, (method, path)
        assert service.http.get("/v1/policy").json()["policy"] == "predictive"


def test_what_is_no_message_is_dropped_and_changes_nothing(
    supervisor: Supervisor, sidecar: Sidecar, tmp_path: Path
) -> None:
    with running(supervisor, sidecar, tmp_path) as service:
        for topic, data in (
            ("traffic", {}),
            ("traffic", {"t": "now", "arrivals": 1, "answered": 1, "in_flight": 0, "instance": "g"}),
            ("forecasts", {"issued_at": 1}),
            ("forecasts", {"issued_at": 1, "step_s": 1, "horizons_s": [], "quantiles": [], "rates_rps": []}),
        ):
            assert service.event(topic, data) == "DROP"
        seen = len(sidecar.published)
        wait_until(lambda: len(sidecar.published) > seen + 2)
        assert set(codes(sidecar.published[-1])) == {"metric-gap"}


def test_a_sidecar_that_is_away_costs_the_loop_nothing(
    supervisor: Supervisor, sidecar: Sidecar, tmp_path: Path
) -> None:
    sidecar.down()
    with running(supervisor, sidecar, tmp_path) as service:
        service.traffic(300, seconds=10)
        wait_until(lambda: supervisor.scaled == [4])
        sidecar.up()
        wait_until(lambda: len(sidecar.published) > 2)
        # One that hangs: decisions go on all the same, the oldest of them are given up.
        sidecar.answer_s = 10.0
        count = len(service.http.get("/v1/decisions").json()["decisions"])
        wait_until(lambda: len(service.http.get("/v1/decisions").json()["decisions"]) > min(90, count + 45))
        sidecar.answer_s = 0.0
        dropped = "foremesh_decisions_dropped_total 0.0"
        assert dropped not in service.http.get("/metrics").text
        before = len(sidecar.published)
        wait_until(lambda: len(sidecar.published) > before + 3)


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        ({"FOREMESH_POLICY": "magic"}, "predictive, hpa, kpa, keda, persistence, trend, static:N"),
        ({"FOREMESH_CONTROL_SOCKET": ""}, "FOREMESH_CONTROL_SOCKET"),
        ({"FOREMESH_MIN_REPLICAS": "5", "FOREMESH_MAX_REPLICAS": "2"}, "above FOREMESH_MAX_REPLICAS 2"),
        ({"FOREMESH_PRICE": "0"}, "FOREMESH_PRICE='0'"),
        ({"FOREMESH_TICK_S": "0"}, "FOREMESH_TICK_S='0'"),
    ],
)
def test_settings_that_cannot_work_end_it_at_once(
    supervisor: Supervisor, extra: dict[str, str], complaint: str
) -> None:
    given = environment(supervisor, None) | extra
    ended = subprocess.run(
        [sys.executable, "-m", "services.autoscaler"],
        cwd=REPOSITORY,
        env=given,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert ended.returncode not in (0, None)
    assert complaint in ended.stderr
    assert "Traceback" not in ended.stderr
