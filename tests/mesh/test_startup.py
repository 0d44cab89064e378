"""How long starting takes, on whatever machine this runs; the bars are those of the design."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from foremesh.mesh import Failed
from tests.mesh.harness import RunningMesh, running_mesh, until

FIRST_ANSWER_WITHIN_S = 10.0
SERVICE_READY_WITHIN_S = 2.0
TRIES = 3  # the machine may be busy once


def test_from_up_to_the_first_answer(tmp_path: Path) -> None:
    began = time.monotonic()
    with running_mesh(tmp_path) as mesh:
        status, answer = mesh.ask()
        took = time.monotonic() - began
        assert status == 200, answer
        print(f"first answer after {took:.1f} s")
        assert took < FIRST_ANSWER_WITHIN_S


@pytest.mark.parametrize(
    "app", ["routing", "tokenization", "inference-1", "predictor", "autoscaler", "dashboard", "gateway"]
)
def test_a_service_alone_is_ready_in_two_seconds(mesh: RunningMesh, app: str) -> None:
    taken: list[float] = []
    while len(taken) < TRIES and not (taken and min(taken) < SERVICE_READY_WITHIN_S):
        before = mesh.processes()[app]["pid"]
        os.kill(before, signal.SIGKILL)

        def back(before: int = before) -> float | None:
            p = mesh.processes().get(app)
            return p["ready_s"] if p and p["state"] == "ready" and p["pid"] not in (None, before) else None

        taken.append(until(back, 20, f"{app} is back"))
    print(f"{app}: ready after {min(taken):.2f} s")
    assert min(taken) < SERVICE_READY_WITHIN_S


def test_status_tells_the_memory_of_every_process(mesh: RunningMesh) -> None:
    for name, process in mesh.processes().items():
        assert 1 < process["pss_mb"] < 400, (name, process["pss_mb"])


def test_a_service_that_refuses_its_settings_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREMESH_MAX_ITEMS", "none at all")
    began = time.monotonic()
    with pytest.raises(Failed, match=r"exited with 1[\s\S]*FOREMESH_MAX_ITEMS"), running_mesh(tmp_path):
        pass
    assert time.monotonic() - began < 30, "the reason was known after the first start"


def test_settings_that_a_service_refuses_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 100 s of history hold two steps of 30 s, and not two of 60.
    monkeypatch.setenv("FOREMESH_HISTORY_S", "100")
    with running_mesh(tmp_path, step_s=30, policy="hpa") as mesh:
        with pytest.raises(Failed, match="history_s"):
            mesh.client.configure(step_s=60, policy="kpa")
        assert mesh.processes()["predictor"]["state"] == "ready"
        assert mesh.environment("predictor")["FOREMESH_STEP_S"] == "30"
        assert mesh.environment("autoscaler")["FOREMESH_POLICY"] == "hpa"
        assert mesh.client.status()["policy"] == "hpa"
        assert mesh.ask()[0] == 200
