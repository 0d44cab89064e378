"""The benches' logic with a load generator that is a table of figures, and the real one against a real
server."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deploy.local.tools import find_go
from lab.bench_mesh import bench_hop, bench_paths
from lab.calibrate import calibrate
from lab.closed_loop import Load, LoadFailed, LoadGenerator, Target, intents_target
from lab.utterances import Utterance

SAID = [Utterance("turn it on", "light_on"), Utterance("停止", "stop")]


class Scripted:
    """A load generator that drifts: each call is slower than the one before by ``drift`` milliseconds."""

    def __init__(self, p50_ms: dict[str, float], drift: float = 0.0, errors: int = 0) -> None:
        self.p50_ms, self.drift, self.errors = p50_ms, drift, errors
        self.calls: list[tuple[str, int]] = []

    def __call__(self, target: Target, *, connections: int, seconds: float, warmup_s: float) -> Load:
        ms = self.p50_ms[target.url] + self.drift * len(self.calls)
        self.calls.append((target.url, connections))
        ok = 1000 - self.errors
        return Load(1000, ok, self.errors, 1000 * connections / ms, ms, 2 * ms, seconds, "status 500")


DIRECT, HOP, PLAIN = (Target(url, ["{}"]) for url in ("direct", "hop", "plain"))


def test_hop_figures_are_differences_within_rounds_and_drift_cancels() -> None:
    steady = bench_hop(DIRECT, HOP, Scripted({"direct": 0.3, "hop": 1.3}), rounds=5)
    assert steady["hop_added_p50_ms"] == pytest.approx(1.0)
    assert steady["hop_added_p99_ms"] == pytest.approx(2.0)
    assert steady["hop_rps_32"] == pytest.approx(32_000 / 1.3, rel=1e-3)
    assert steady["direct_rps_32"] > steady["hop_rps_32"]
    drifting = Scripted({"direct": 0.3, "hop": 1.3}, drift=0.05)
    assert bench_hop(DIRECT, HOP, drifting, rounds=6)["hop_added_p50_ms"] == pytest.approx(1.0)
    of_one = [url for url, connections in drifting.calls if connections == 1]
    assert of_one == ["direct", "hop", "hop", "direct"] * 3


def test_an_installed_daprd_is_measured_beside_ours_where_there_is_one() -> None:
    run = Scripted({"direct": 0.3, "hop": 1.3, "plain": 1.8})
    figures = bench_hop(DIRECT, HOP, run, installed=PLAIN, rounds=2)
    assert figures["installed_hop_added_p50_ms"] == pytest.approx(1.5)
    assert figures["installed_hop_rps_32"] == pytest.approx(32_000 / 1.8, rel=1e-3)
    without = bench_hop(DIRECT, HOP, run, rounds=2)
    assert without["installed_hop_added_p50_ms"] is without["installed_hop_rps_32"] is None


def test_paths_at_each_number_of_connections_and_the_ratio_of_each_round() -> None:
    run = Scripted({"hop": 4.0, "plain": 3.0, "direct": 2.0})
    said: list[str] = []
    figures = bench_paths(HOP, PLAIN, DIRECT, run, rounds=5, say=said.append)
    assert (
        set(figures["path"])
        == set(figures["mtls_off_path"])
        == set(figures["direct_path"])
        == {"1", "8", "64"}
    )
    assert figures["path"]["8"] == {"rps": 2000.0, "p50_ms": 4.0, "p99_ms": 8.0}
    assert figures["mesh_to_direct_64"] == 0.5
    assert figures["mesh_to_direct_64_rounds"] == [0.5] * 5
    assert figures["errors"] == 0
    assert len(said) == len(run.calls) == 3 * 3 * 5
    assert said[0].startswith("round 1 of 5, 1 connections, mesh: 250 requests/s")


def test_a_broken_path_has_no_figures() -> None:
    with pytest.raises(LoadFailed, match="500 of 1000 requests failed, first: status 500"):
        bench_hop(DIRECT, HOP, Scripted({"direct": 1.0, "hop": 1.0}, errors=500))
    assert bench_hop(DIRECT, HOP, Scripted({"direct": 1.0, "hop": 1.0}, errors=5), rounds=1)["errors"] == 20
    with pytest.raises(ValueError, match="0 rounds"):
        bench_hop(DIRECT, HOP, Scripted({}), rounds=0)


@pytest.fixture(scope="module")
def loadgen(tmp_path_factory: pytest.TempPathFactory) -> LoadGenerator:
    go = find_go()
    if go is None:
        pytest.skip("no Go found: lab/loadgen can't be built")
    binary = tmp_path_factory.mktemp("loadgen") / "loadgen"
    source = Path(__file__).resolve().parents[3] / "lab" / "loadgen"
    subprocess.run([go, "build", "-o", str(binary), "."], cwd=source, check=True, timeout=240)
    return LoadGenerator(binary, timeout_s=2.0)


class Tiny(BaseHTTPRequestHandler):
    """Answers intents, and 503 on /busy."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes: each answer would wait for an ACK
    peers: set[int] = set()  # noqa: RUF012 (one server per module)
    texts: set[str] = set()  # noqa: RUF012

    def do_POST(self) -> None:
        said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.peers.add(self.client_address[1])
        self.texts.add(said["text"])
        body = json.dumps({"intent": "light_on"}).encode()
        self.send_response(503 if self.path == "/busy" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def tiny() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Tiny)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join(5)


def test_closed_loop_against_a_real_server(loadgen: LoadGenerator, tiny: str) -> None:
    Tiny.peers.clear()
    load = loadgen(intents_target(tiny, SAID), connections=4, seconds=0.5, warmup_s=0.1)
    assert load.errors == 0, load.first_error
    assert load.ok == load.requests > 20
    assert load.rps == pytest.approx(load.ok / 0.5)
    assert load.p50_ms is not None
    assert load.p99_ms is not None
    assert 0 < load.p50_ms <= load.p99_ms
    assert len(Tiny.peers) == 4, "connections must be kept"
    assert {"turn it on", "停止"} <= Tiny.texts


def test_refusals_are_errors_and_calibration_says_so(loadgen: LoadGenerator, tiny: str) -> None:
    busy = loadgen(Target(tiny + "/busy", ['{"text":"a"}']), connections=1, seconds=0.3)
    assert (busy.ok, busy.p50_ms) == (0, None)
    assert "status 503" in busy.first_error
    missing = loadgen(Target(tiny, ['{"text":"a"}'], expect='"ids"'), connections=1, seconds=0.3)
    assert 'without "ids"' in missing.first_error
    assert calibrate(tiny, 0.4, utterances=SAID, run=loadgen, connections=2, warmup_s=0.1) > 40
    with pytest.raises(LoadFailed, match=r"answered nothing in 0\.2 s"):
        calibrate("http://127.0.0.1:1", 0.2, utterances=SAID, run=loadgen, connections=2, warmup_s=0)


def test_a_generator_that_cannot_run_says_so(loadgen: LoadGenerator, tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="make setup"):
        LoadGenerator(tmp_path / "absent")(DIRECT, connections=1, seconds=0.1)
    with pytest.raises(LoadFailed, match="no http://host:port/path address"):
        loadgen(DIRECT, connections=1, seconds=0.1)
    with pytest.raises(LoadFailed, match="connections 0"):
        loadgen(Target("http://127.0.0.1:1/", ["{}"]), connections=0, seconds=0.1)
