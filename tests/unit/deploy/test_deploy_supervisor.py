"""The supervisor's own process: what it refuses to start over, and how it says so."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.local import tools
from deploy.local.settings import REPO, MeshSettings
from deploy.local.strays import end_strays, start_time


@pytest.fixture
def settings(tmp_path: Path, free_port: int) -> MeshSettings:
    return MeshSettings(port_base=min(free_port, 60_000), state_dir=tmp_path)


def supervise(settings: MeshSettings, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.local.supervisor", settings.model_dump_json()],
        cwd=REPO, capture_output=True, text=True, timeout=60, check=False, env=os.environ | environment,
    )  # fmt: skip


def state(settings: MeshSettings) -> dict[str, Any]:
    return dict(json.loads((settings.run_dir / "state.json").read_text()))


def test_a_second_supervisor_of_a_mesh_gives_way(settings: MeshSettings) -> None:
    settings.run_dir.mkdir(parents=True)
    with (settings.run_dir / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = supervise(settings)
    assert done.returncode == 3
    assert "is up already" in done.stderr


def test_a_port_that_is_taken_is_named(settings: MeshSettings) -> None:
    with socket.create_server(("127.0.0.1", settings.port_base + 1)):
        done = supervise(settings)
    assert done.returncode == 1
    assert state(settings)["state"] == "failed"
    assert f"port {settings.port_base + 1} is taken" in state(settings)["error"]
    assert "Traceback" not in done.stderr


def test_a_binary_that_is_missing_is_named_at_once(settings: MeshSettings, tmp_path: Path) -> None:
    """Also one that no sidecar needs: a unit would go on trying to find it for a minute."""
    cache = tmp_path / "foremesh"
    cache.mkdir()
    for tool in tools.GO_TOOLS:
        if tool is not tools.GATEWAY:
            (cache / tool.path.name).touch(mode=0o755)
    done = supervise(settings, XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode == 1
    assert "edge gateway is not built; run `make setup`" in state(settings)["error"]
    assert [json.loads(line)["app"] for line in done.stderr.splitlines()], "its log is JSON lines"


def test_an_unusable_daprd_is_named_at_once(settings: MeshSettings) -> None:
    done = supervise(settings.model_copy(update={"daprd": "/nowhere/daprd"}))
    assert done.returncode == 1
    assert "/nowhere/daprd" in state(settings)["error"] or "make setup" in state(settings)["error"]


@pytest.fixture
def stray() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(300)"])
    yield child
    child.kill()
    child.wait()


def test_what_an_earlier_run_left_is_ended(tmp_path: Path, stray: subprocess.Popen[bytes]) -> None:
    (tmp_path / "children.json").write_text(json.dumps({stray.pid: start_time(stray.pid)}))
    end_strays(tmp_path)
    assert stray.wait(5) == -9


def test_a_stranger_with_the_same_pid_is_left_alone(tmp_path: Path, stray: subprocess.Popen[bytes]) -> None:
    """Pids come round again: only pid and start time together name a process."""
    (tmp_path / "children.json").write_text(json.dumps({stray.pid: "12345"}))
    end_strays(tmp_path)
    assert stray.poll() is None
    (tmp_path / "children.json").write_text(json.dumps({stray.pid: ""}))
    end_strays(tmp_path)
    assert stray.poll() is None


@pytest.mark.parametrize("content", [None, "", "{half", '{"999999999": "1"}'])
def test_a_record_that_is_of_no_use_does_no_harm(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "children.json").write_text(content)
    end_strays(tmp_path)


def test_the_start_time_of_a_process_is_its_own(stray: subprocess.Popen[bytes]) -> None:
    assert start_time(stray.pid) == start_time(stray.pid) != start_time(os.getppid())
    stray.kill()
    stray.wait()
    assert start_time(stray.pid) == ""
    assert psutil.pid_exists(os.getpid())
