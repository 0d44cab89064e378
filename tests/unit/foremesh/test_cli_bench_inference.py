"""`foremesh bench inference`: a real run of ours against bare, and rivals that cannot be measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from foremesh import bench_inference
from foremesh.bench_inference import NAMES, answering, installed
from lab.bench_inference import NotStarted
from lab.rivals.specs import OURS, RIVALS
from lab.utterances import Utterance

SAID = [Utterance("turn it on", "light_on"), Utterance("stop", "stop")]
# Answers the first text rightly and the second wrongly.
SERVER = """
import http.server, json, sys
class Answers(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps({"intent": "light_on"}).encode()
        self.send_response(200); self.send_header("content-length", str(len(body))); self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answers).serve_forever()
"""


def test_ours_is_measured_against_bare(foremesh: Any, tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    words = ("--no-rivals", "--tier", "tiny", "--rounds", "1", "--seconds", "0.5", "--json", str(out))
    done = foremesh("bench", "inference", *words)
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())
    for who in (figures["bare"]["tiny"], figures["ours"]["tiny"]["at"]):
        assert set(who) == {"1", "8", "64"}
        assert all(point["rps"] > 0 and 0 < point["p50_ms"] <= point["p99_ms"] for point in who.values())
    assert 0 < figures["tiny_c64_vs_bare"] < 2
    assert figures["ours"]["tiny"]["accuracy"] > 0.9
    assert 20 < figures["tiny_rss_mb"] < 500
    assert 0 < figures["tiny_ready_s"] < 30
    assert figures["rivals"] == figures["failed"] == {}
    assert set(figures["bare_any_batch"]) == {"tiny"}, (
        "its card bounds what runs together; what it would be is told"
    )
    assert figures["errors"] == 0
    assert figures["machine"]["cores"] >= 1 and figures["machine"]["onnxruntime"]
    assert {"tiny_c64_vs_bare", "tiny_rss_mb"} <= {bar["figure"] for bar in figures["bars"]}
    assert "at least 0.35" in done.stdout and "bare" in done.stdout
    assert "round 1 of 1" in done.stderr and "round 1 of 1" not in done.stdout


def test_a_server_that_answers_is_up_until_the_end_of_the_block(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", SERVER, "{port}"]
    with answering(OURS, argv, SAID, tmp_path / "server", 30.0) as server:
        assert server.accuracy == 0.5
        assert 0 < server.ready_s < 30
        assert server.rss_mb() > 5
        port = int(server.target.url.split(":")[2].split("/")[0])
        processes = server.process.processes()
        listening = [c.laddr for c in processes[0].net_connections("inet") if c.status == psutil.CONN_LISTEN]
        assert listening == [("127.0.0.1", port)]
    assert not any(process.is_running() for process in processes)
    assert OURS.ask(port, "stop") is None


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("raise SystemExit('no model here')", r"(?s)Ray Serve ended before it answered.*no model here"),
        ("import time; time.sleep(300)", r"Ray Serve did not answer rightly within 1 s"),
    ],
)
def test_a_rival_that_does_not_start_is_told_of_with_its_reason(
    tmp_path: Path, script: str, why: str
) -> None:
    with (
        pytest.raises(NotStarted, match=why),
        answering(RIVALS["ray"], [sys.executable, "-c", script], SAID, tmp_path / "server", 1.0),
    ):
        raise AssertionError("it is not up")


def test_a_rival_that_cannot_be_installed_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_inference, "LOCKS", tmp_path)
    with pytest.raises(NotStarted, match=r"not installed: .*ray\.lock"):
        installed("ray", print)


def test_the_names_on_the_command_line_are_those_of_the_lab() -> None:
    assert tuple(RIVALS) == NAMES


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--rival", "triton"), "--rival 'triton': choose from bentoml, mlserver, litserve, ray"),
        (("--tier", "huge"), "--tier 'huge': choose from tiny, mini, base"),
        (("--rival", "ray", "--no-rivals"), "--rival and --no-rivals exclude each other"),
        (("--json", "/no/such/folder/out.json"), "there is no folder /no/such/folder"),
        (("--seconds", "0.1"), "--seconds"),
        (("--rounds", "0"), "--rounds"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_option_is_named_and_nothing_starts(foremesh: Any, words: tuple[str, ...], said: str) -> None:
    done = foremesh("bench", "inference", *words)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "tier tiny" not in done.stderr
