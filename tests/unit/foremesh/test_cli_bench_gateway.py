"""`foremesh bench gateway`: a real, short run beside a bare proxy, and beside those rivals that are installed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.local import tools
from deploy.local.settings import REPO
from foremesh.bench_inference import LOCKS

WITHIN_S = 60.0
SHORT = ("--rounds", "1", "--seconds", "0.5")


def there() -> list[str]:
    """The rivals that can be measured here without an installation."""
    digest = hashlib.sha256((LOCKS / "envoy.lock").read_bytes()).hexdigest()[:16]
    envoy = (tools.cache_dir() / f"envoy-{digest}" / "done").exists()
    return ["bare", *(["nginx"] if shutil.which("nginx") else []), *(["envoy"] if envoy else [])]


def test_the_gateway_is_measured_beside_what_is_there(foremesh: Any, tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    rivals = there()
    words = (*SHORT, *(word for name in rivals for word in ("--rival", name)), "--json", str(out))
    done = foremesh("bench", "gateway", *words, within_s=180)
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())
    assert set(figures["saturated"]) == {"gateway", *rivals}
    for at in figures["saturated"].values():
        assert at["rps"] > 0 and 0 < at["p50_ms"] <= at["p99_ms"] and at["cpu_us"] > 1 and at["rss_mb"] > 1
    for rival in rivals:
        assert 0.05 < figures[f"cpu_vs_{rival}"] < 50 and figures[f"p99_vs_{rival}"] > 0
        assert figures["rounds"][rival]["cpu_vs"] == [figures[f"cpu_vs_{rival}"]]
    assert set(figures["light"]) == {"direct", "gateway", *rivals}
    assert 5 < figures["rss_idle_mb"] <= figures["rss_load_mb"] < 500 and figures["rss_1k_mb"] < 500
    assert 1 < figures["binary_mb"] < 100
    assert 1 < figures["start_ms"] < 10_000
    assert set(figures["match_ns"]) == {"10", "1000", "10000"}
    assert figures["failed"] == {} and figures["errors"] == 0
    assert figures["machine"]["cores"] >= 1
    assert {"rss_idle_mb", "start_ms", "match_growth"} <= {bar["figure"] for bar in figures["bars"]}
    assert "at most 30" in done.stdout and "bare" in done.stdout
    assert "round 1 of 1" in done.stderr and "round 1 of 1" not in done.stdout


def test_nothing_is_left_of_a_bench_that_is_told_to_end(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "foremesh.cli", "bench", "gateway", "--rival", "bare", "--rounds", "50"]
    bench = subprocess.Popen(
        command, cwd=REPO, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert bench.stderr is not None
    timer = threading.Timer(WITHIN_S, bench.kill)
    timer.start()
    try:
        said = ""
        while "round 1 of 50" not in said:
            line = bench.stderr.readline()
            assert line, f"it ended before it measured: {said}"
            said += line
        started = psutil.Process(bench.pid).children(recursive=True)
        assert len(started) > 3
        bench.send_signal(signal.SIGTERM)
        bench.stderr.read()
        bench.wait()
        assert bench.returncode == 128 + signal.SIGTERM
        _, left = psutil.wait_procs(started, timeout=10)
        assert not left
        assert list(tmp_path.iterdir()) == []
    finally:
        timer.cancel()
        bench.kill()
        bench.wait()
        bench.stderr.close()


def test_a_machine_without_nginx_is_told_how_to_get_it(foremesh: Any) -> None:
    without = [folder for folder in os.environ["PATH"].split(":") if not Path(folder, "nginx").exists()]
    done = foremesh("bench", "gateway", PATH=":".join(without))
    assert done.returncode == 2
    assert "apt install nginx-light" in done.stderr and "--rival envoy --rival bare" in done.stderr
    assert "starting" not in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--rival", "traefik"), "--rival 'traefik': choose from envoy, nginx, bare"),
        (("--json", "/no/such/folder/out.json"), "there is no folder /no/such/folder"),
        (("--seconds", "0.1"), "--seconds"),
        (("--rounds", "0"), "--rounds"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_option_is_named_and_nothing_starts(foremesh: Any, words: tuple[str, ...], said: str) -> None:
    done = foremesh("bench", "gateway", *words)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "starting" not in done.stderr
