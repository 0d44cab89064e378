"""A replica's CPU quota: what is written in each layout of control groups, and that the kernel keeps to it."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from deploy.local.cpu_quota import CpuQuota


@pytest.fixture
def v1(tmp_path: Path) -> Path:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    return tmp_path


@pytest.fixture
def v2(tmp_path: Path) -> Path:
    (tmp_path / "cgroup.subtree_control").write_text("memory pids")
    return tmp_path


def read(folder: Path, *names: str) -> list[str]:
    return [(folder / name).read_text().strip() for name in names]


def test_version_1_gets_period_and_quota(v1: Path) -> None:
    quota = CpuQuota("mesh", v1)
    assert quota.available
    quota.hold("inference-1", 4711, 0.5)
    group = v1 / "cpu" / "mesh" / "inference-1"
    assert read(group, "cgroup.procs") == ["4711"]
    period, allowed = map(int, read(group, "cpu.cfs_period_us", "cpu.cfs_quota_us"))
    assert allowed / period == pytest.approx(0.5)


def test_version_2_gets_one_line_and_its_controller(v2: Path) -> None:
    quota = CpuQuota("mesh", v2)
    assert quota.available
    assert read(v2, "cgroup.subtree_control") == ["+cpu"]
    assert read(v2 / "mesh", "cgroup.subtree_control") == ["+cpu"]
    quota.hold("inference-1", 4711, 2.0)
    allowed, period = map(int, read(v2 / "mesh" / "inference-1", "cpu.max")[0].split())
    assert allowed / period == pytest.approx(2.0)
    assert read(v2 / "mesh" / "inference-1", "cgroup.procs") == ["4711"]


def test_a_controller_that_is_on_is_left_alone(v2: Path) -> None:
    (v2 / "cgroup.subtree_control").write_text("cpu memory")
    assert CpuQuota("mesh", v2).available
    assert read(v2, "cgroup.subtree_control") == ["cpu memory"]


@pytest.mark.parametrize("cores", [0.01, 0.05, 0.1, 1.0, 3.5])
def test_the_kernel_s_smallest_quota_and_period_are_kept(v1: Path, cores: float) -> None:
    CpuQuota("mesh", v1).hold("r", 1, cores)
    period, allowed = map(int, read(v1 / "cpu/mesh/r", "cpu.cfs_period_us", "cpu.cfs_quota_us"))
    assert allowed >= 1_000
    assert 1_000 <= period <= 1_000_000
    assert allowed / period == pytest.approx(cores, rel=0.02)


def test_it_says_so_where_it_may_not(tmp_path: Path) -> None:
    assert not CpuQuota("mesh", tmp_path / "no-control-groups-here").available


def test_two_meshes_do_not_share_a_group(v1: Path) -> None:
    for mesh in ("foremesh-8700", "foremesh-8900"):
        CpuQuota(mesh, v1).hold("inference-1", 1, 0.1)
    assert {f.name for f in (v1 / "cpu").iterdir() if f.is_dir()} == {"foremesh-8700", "foremesh-8900"}


def test_a_busy_process_is_held_to_its_quota() -> None:
    """For real: a loop that would take a whole core gets a tenth of one."""
    quota = CpuQuota(f"foremesh-test-{secrets.token_hex(4)}")
    if not quota.available:
        pytest.skip("NOT CHECKED: the CPU quota, because this user may not write control groups here")
    busy = subprocess.Popen([sys.executable, "-I", "-S", "-c", "while True: pass"])
    try:
        quota.hold("busy", busy.pid, 0.1)
        process = psutil.Process(busy.pid)

        def used() -> float:
            return process.cpu_times().user + process.cpu_times().system

        before, began = used(), time.monotonic()
        time.sleep(2.0)
        share = (used() - before) / (time.monotonic() - began)
    finally:
        busy.kill()
        busy.wait()
        time.sleep(0.1)
        quota.close()
    assert 0.02 < share < 0.2, f"{share:.2f} of a core"
    assert CpuQuota(quota._folder.name).available, "the folder was left in a state to be used again"
    quota.close()
    assert not quota._folder.exists(), "nothing is left behind"
