"""Processes die; service returns within 5 s and nothing that was acknowledged is lost."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.mesh.harness import Load, RunningMesh, running_mesh, until

RETURNS_WITHIN_S = 5.0
ON_THE_PATH = (
    "gateway", "gateway.sidecar", "routing", "routing.sidecar", "tokenization", "tokenization.sidecar",
    "inference-1", "inference-1.sidecar",
)  # fmt: skip
BESIDE_IT = (
    "redis", "sentry", "jaeger", "predictor", "predictor.sidecar", "autoscaler", "autoscaler.sidecar", "dashboard",
    "dashboard.sidecar",
)  # fmt: skip


def acknowledged_session(mesh: RunningMesh) -> str:
    status, document = mesh.post("/v1/sessions", {})
    assert status == 201, document
    return str(document["session_id"])


@pytest.mark.parametrize("victim", ON_THE_PATH + BESIDE_IT)
def test_kill_9_of_any_one_process_under_load(mesh: RunningMesh, victim: str) -> None:
    session = acknowledged_session(mesh)
    with Load(mesh) as load:
        before = mesh.processes()[victim]
        killed = time.monotonic()
        os.kill(before["pid"], signal.SIGKILL)
        # Answers that were on their way do not count: half a second later something must have come back to life.
        until(
            lambda: load.answered_after(killed + 0.5),
            RETURNS_WITHIN_S,
            f"service returns after {victim} died",
        )
        until(
            lambda: (
                (p := mesh.processes().get(victim)) and p["state"] == "ready" and p["pid"] != before["pid"]
            ),
            15,
            f"{victim} is restarted",
        )
        recovered = time.monotonic()
        until(lambda: load.answered_after(recovered), RETURNS_WITHIN_S, "service goes on")
    late = [what for at, what in load.failures if at > killed + RETURNS_WITHIN_S]
    assert not late, late[:5]
    if victim in BESIDE_IT:
        assert not load.failures, load.failures[:5]
    status, document = until(
        lambda: (r := mesh.get(f"/v1/sessions/{session}"))[0] == 200 and r, 10, "the session is there"
    )
    assert document["session_id"] == session, status


def test_without_redis_requests_that_need_no_state_keep_working(mesh: RunningMesh) -> None:
    session = acknowledged_session(mesh)
    redis = mesh.processes()["redis"]["pid"]
    with Load(mesh) as load:
        os.kill(redis, signal.SIGSTOP)
        try:
            stopped = time.monotonic()
            until(lambda: load.answered_after(stopped + 2.0), 5, "answers go on while Redis hangs")
            # What needs state says so, in time, instead of pretending.
            status, document = mesh.post("/v1/sessions", {})
            assert status == 503, document
            assert document["type"].startswith("https://foremesh.dev/problems/")
        finally:
            os.kill(redis, signal.SIGCONT)
        os.kill(redis, signal.SIGKILL)
        until(lambda: mesh.post("/v1/sessions", {})[0] == 201, 10, "sessions work again")
    assert not load.failures, load.failures[:5]
    assert mesh.get(f"/v1/sessions/{session}")[0] == 200


def test_acknowledged_sessions_survive_kill_9_of_redis_while_they_are_written(mesh: RunningMesh) -> None:
    acknowledged: list[str] = []
    for n in range(60):
        if n == 30:
            os.kill(mesh.processes()["redis"]["pid"], signal.SIGKILL)
        status, document = mesh.post("/v1/sessions", {})
        if status == 201:
            acknowledged.append(document["session_id"])
    assert len(acknowledged) >= 30
    until(lambda: mesh.post("/v1/sessions", {})[0] == 201, 10, "sessions work again")
    lost = [s for s in acknowledged if mesh.get(f"/v1/sessions/{s}")[0] != 200]
    assert not lost


def test_kill_9_of_the_supervisor_leaves_no_process(tmp_path: Path) -> None:
    with running_mesh(tmp_path) as mesh:
        pids = [p["pid"] for p in mesh.processes().values()]
        assert len(pids) > 15
        os.kill(mesh.supervisor_pid, signal.SIGKILL)
        until(lambda: not any(alive(p) for p in pids), 5, "every child has gone")


def test_sigterm_of_the_supervisor_ends_everything_in_order_and_two_meshes_do_not_meet(
    tmp_path: Path,
) -> None:
    with running_mesh(tmp_path) as first, running_mesh(tmp_path) as second:
        assert first.ask()[0] == 200
        assert second.ask()[0] == 200
        pids = [p["pid"] for p in first.processes().values()]
        os.kill(first.supervisor_pid, signal.SIGTERM)
        until(lambda: not any(alive(p) for p in [*pids, first.supervisor_pid]), 20, "the first mesh has gone")
        assert second.ask()[0] == 200


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except OSError:
        return False
