"""The bench of the gateway with proxies that are tables of figures, and what is written for real ones."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lab import proxies
from lab.bench_gateway import BARS, CONNECTIONS, LIGHT_CONNECTIONS, bench_proxies, match_ns, report
from lab.closed_loop import Load, LoadFailed, LoadRunner, Target
from lab.idle_connections import idle_connections

# Milliseconds that a request takes, microseconds of CPU that it costs.
COSTS = {"gateway": (4.0, 50.0), "envoy": (5.0, 40.0), "nginx": (2.0, 10.0), "direct": (0.1, 0.0)}


class Machine:
    """Proxies whose requests cost what the table says, a machine that slows down by ``drift`` with each run."""

    def __init__(self, drift: float = 0.0, broken: str = "") -> None:
        self.drift, self.broken, self.runs = drift, broken, 0
        self.used: dict[str, float] = dict.fromkeys(COSTS, 0.0)
        self.asked: list[tuple[str, int, float]] = []

    def runner(self, rate: float = 0.0) -> LoadRunner:
        def run(target: Target, *, connections: int, seconds: float, warmup_s: float) -> Load:
            name = target.url
            slower = 1 + self.drift * self.runs
            self.runs += 1
            self.asked.append((name, connections, rate))
            ms, us = COSTS[name][0] * slower, COSTS[name][1] * slower
            self.used[name] += 1000 * us / 1e6
            wrong = 100 if name == self.broken else 0
            return Load(1000 + wrong, 1000, wrong, connections / ms * 1e3, ms, 2 * ms, seconds, "status 500")

        return run

    def proxies(self) -> dict[str, Any]:
        return {name: Proxy(self, name) for name in COSTS if name != "direct"}


class Proxy:
    """One of them, up."""

    def __init__(self, machine: Machine, name: str) -> None:
        self.machine, self.name, self.target = machine, name, Target(name, [])

    def cpu_s(self) -> float:
        return self.machine.used[self.name]

    def rss_mb(self) -> float:
        return 20.0 + self.machine.runs


def bench(machine: Machine, **options: Any) -> dict[str, Any]:
    return bench_proxies(machine.proxies(), Target("direct", []), machine.runner(), machine.runner, **options)


def test_ratios_are_of_a_round_and_drift_cancels() -> None:
    figures = bench(Machine(drift=0.001), rounds=4)
    assert figures["cpu_vs_envoy"] == pytest.approx(1.25, abs=0.01)
    assert figures["cpu_vs_nginx"] == pytest.approx(5.0, abs=0.05)
    assert figures["p99_vs_envoy"] == pytest.approx(0.8, abs=0.01)
    assert figures["added_p50_ms"] == pytest.approx(3.9, abs=0.3)
    assert figures["added_p50_ms_of"]["nginx"] == pytest.approx(1.9, abs=0.2)
    assert figures["errors"] == 0
    assert all(len(of) == 4 for rival in figures["rounds"].values() for of in rival.values())


def test_the_cpu_of_a_warm_up_is_not_that_of_requests() -> None:
    cold, warm = (bench(Machine(), rounds=1, warmup_s=s)["saturated"]["envoy"]["cpu_us"] for s in (0.0, 1.0))
    assert cold == warm == 40.0


def test_the_light_load_is_a_fifth_of_what_the_gateway_takes_and_the_same_for_all() -> None:
    machine = Machine()
    figures = bench(machine, rounds=1)
    assert figures["light_rps"] == 0.2 * CONNECTIONS / 4.0 * 1e3
    light = [(name, rate) for name, connections, rate in machine.asked if connections == LIGHT_CONNECTIONS]
    assert light == [(name, figures["light_rps"]) for name in ("direct", "gateway", "envoy", "nginx")]


def test_the_memory_under_load_is_the_most_of_all_rounds() -> None:
    figures = bench(Machine(), rounds=2, warmup_s=0.0)
    assert figures["rss_load_mb"] == 26.0  # the gateway is the last of six runs
    assert figures["saturated"]["nginx"]["rss_mb"] == 24.0


def test_a_proxy_that_answers_wrongly_ends_the_bench_by_its_name() -> None:
    with pytest.raises(
        LoadFailed, match=r"nginx at 64 connections: 100 of 1100 requests failed, first: status 500"
    ):
        bench(Machine(broken="nginx"), rounds=1)
    with pytest.raises(ValueError, match="0 rounds"):
        bench(Machine(), rounds=0)


def test_bars_are_told_of_what_was_measured_and_of_nothing_else() -> None:
    told = report({"cpu_vs_envoy": 1.0, "added_p50_ms": 0.31, "match_ns": {"10": 100.0, "10000": 401.0}})
    met = {bar["figure"]: bar["met"] for bar in told["bars"]}
    assert met == {"cpu_vs_envoy": True, "added_p50_ms": False, "match_growth": False}
    assert len({bar.figure for bar in BARS}) == len(BARS)
    assert report({"match_ns": None})["bars"] == []


def test_the_slowest_kind_of_match_counts_and_repetitions_are_noise() -> None:
    said = "".join(
        f"BenchmarkMatch/{kind}/{rules}-2  \t 1000\t {ns} ns/op\t 0 B/op\n"
        for kind, rules, ns in (
            ("exact", 10, 90), ("exact", 10, 100), ("exact", 10, 9000), ("rest", 10, 120.5), ("exact", 10000, 80),
        )
    )  # fmt: skip
    assert match_ns(said) == {"10": 120.5, "10000": 80.0}
    with pytest.raises(ValueError, match="no figure of BenchmarkMatch"):
        match_ns("PASS\n")


@pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed")
def test_nginx_understands_its_table(tmp_path: Path) -> None:
    argv = proxies.nginx(Path(str(shutil.which("nginx"))))(tmp_path, 18080, 18090, proxies.ROUTES)
    done = subprocess.run([*argv, "-t"], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr


def test_all_are_told_the_same_routes(tmp_path: Path) -> None:
    for write in (proxies.gateway, proxies.envoy, proxies.nginx):
        place = tmp_path / write.__name__
        place.mkdir()
        write(Path("/bin/true"))(place, 18080, 18090, proxies.ROUTES)
        written = "".join(file.read_text() for file in place.rglob("*") if file.is_file())
        for route in proxies.ROUTES:
            assert route.path in written, (write.__name__, route)
        assert "gold" in written and "X-Site" in written and "X-Debug" in written and "X-Served-By" in written
    assert json.loads((tmp_path / "envoy/envoy.json").read_text())["admin"]
    assert len(proxies.many_routes(1000)) == 1000


class Once(BaseHTTPRequestHandler):
    """Answers 200, or 503 below /no, and keeps the connection."""

    protocol_version = "HTTP/1.1"
    open = 0

    def setup(self) -> None:
        super().setup()
        Once.open += 1

    def do_GET(self) -> None:
        self.send_response(503 if self.path.startswith("/no") else 200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing is to be said."""


@pytest.fixture
def server() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Once) as up:
        Once.open = 0
        threading.Thread(target=up.serve_forever, daemon=True).start()
        yield up.server_port
        up.shutdown()


def test_idle_connections_are_as_many_and_were_answered(server: int) -> None:
    with idle_connections(server, "/", {}, 20):
        assert Once.open == 20
    with pytest.raises(OSError, match="status 503"), idle_connections(server, "/no", {}, 3):
        raise AssertionError("it is not answered")
    with pytest.raises(OSError, match="open files"), idle_connections(server, "/", {}, 10_000_000_000):
        raise AssertionError("so many cannot be open")
