"""Mixed load: every kind is sent and answered as it should be, what is wrong is told, growth is that of the end."""

from __future__ import annotations

import http.server
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from random import Random

import httpx
import psutil

from lab.soak import draw, soak, spread
from lab.utterances import Utterance, read_utterances
from tests.unit.routing.processes import free_port

ROOT = Path(__file__).parents[3]


def test_growth_is_from_behind_the_settling_to_the_end() -> None:
    assert spread([]) == (0.0, 0.0)
    climbing = [float(number) for number in range(100)]
    assert spread(climbing) == (14.5, 94.5)
    assert spread([10.0] * 10 + [100.0] * 90) == (100.0, 100.0), "what is loaded at the begin is no growth"


def test_every_kind_is_drawn_and_can_be_sent() -> None:
    random = Random(1)
    drawn = [draw(random, ["turn on the light", "play music"]) for _ in range(2000)]
    assert len({request.kind for request in drawn}) == 11
    assert all(request.body for request in drawn if request.method == "POST")


def test_inference_alone_answers_all_of_it_as_it_should() -> None:
    port = free_port()
    options = json.dumps({"catalog": str(ROOT / "models/catalog"), "preload": ["intent.tiny"], "port": port})
    server = subprocess.Popen([sys.executable, "-m", "services.inference.standalone", options], cwd=ROOT)
    try:
        deadline = time.monotonic() + 30
        base = f"http://127.0.0.1:{port}"
        while time.monotonic() < deadline:
            try:
                httpx.get(f"{base}/readyz", timeout=5).raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.05)
        process = psutil.Process(server.pid)
        found = soak(
            base,
            read_utterances(ROOT / "models/data/utterances.tsv"),
            lambda: process.memory_info().rss / 1e6,
            seconds=4.0,
            pause_s=0.0,
            every_s=0.2,
        )
        assert found["wrong"] == 0, found["first_wrong"]
        assert sum(found["requests"].values()) > 50 and len(found["requests"]) >= 8
        assert len(found["samples_mb"]) >= 10 and found["memory_mb"][0] > 40
    finally:
        server.terminate()
        server.wait(15)


def test_what_is_wrong_is_told_with_what_was_said() -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_error(500, "no")

        do_GET = do_POST

        def log_message(self, format: str, *args: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        base = f"http://127.0.0.1:{server.server_address[1]}"
        found = soak(base, [Utterance("a", "b")], lambda: 50.0, seconds=0.5, every_s=0.1)
    finally:
        server.shutdown()
        server.server_close()
    assert found["wrong"] == sum(found["requests"].values()) > 0
    assert "500" in found["first_wrong"]
