"""Overload: how arrivals are drawn, what counts as goodput, growth and recovery; and once for real."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from lab.closed_loop import Load
from lab.outcome import Outcome, Replay
from lab.overload import SETTLE_S, arrivals, figures, overload, recovered, slow_ms
from lab.utterances import Utterance

ROOM = 4


class Server(http.server.ThreadingHTTPServer):
    """Takes ROOM requests at once, each for `takes_s`, and refuses the rest."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.takes_s = 0.01
        self.retry_after = True
        self.room = threading.Semaphore(ROOM)

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        if not self.server.room.acquire(blocking=False):
            self._send(503, {"title": "Overloaded"})
            return
        try:
            time.sleep(self.server.takes_s)
        finally:
            self.server.room.release()
        self._send(200, {"intent": "a"})

    def _send(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        if status == 503 and self.server.retry_after:
            self.send_header("retry-after", "1")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        return


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


def test_arrivals_are_as_many_as_wanted_and_ascend() -> None:
    times = arrivals(200.0, 30.0, seed=3)
    assert abs(len(times) - 6000) < 5 * 6000**0.5
    assert (np.diff(times) > 0).all() and times[0] > 0 and times[-1] < 30
    assert (times == arrivals(200.0, 30.0, seed=3)).all()


def replayed(outcomes: list[Outcome], latency_s: float = 0.01) -> Replay:
    count = len(outcomes)
    return Replay(
        scheduled_s=np.linspace(0.0, SETTLE_S + 10.0, count, endpoint=False),
        lag_s=np.zeros(count),
        latency_s=np.full(count, latency_s),
        status=np.zeros(count, np.int16),
        outcome=np.array(outcomes, np.int8),
        correct=np.where(np.array(outcomes) == Outcome.ANSWERED, 0, -1).astype(np.int8),
        degraded=np.zeros(count, np.bool_),
        tier=np.zeros(count, np.int8),
        tiers=("tiny",),
        traces=(),
        connections_opened=1,
        max_outstanding=1,
        began_s=0.0,
    )


def test_figures_are_of_what_comes_behind_the_settling() -> None:
    count = 3 * (int(SETTLE_S) + 10) * 10
    outcomes = [
        Outcome.BROKEN if at < count * SETTLE_S / (SETTLE_S + 10.0) else list(Outcome)[at % 2]
        for at in range(count)
    ]
    found = figures(replayed(outcomes), 20.0, SETTLE_S, [50.0, 50.0, 51.0], retry_after=True, recovery_s=0.5)
    assert found["failed"] == 0.0, "what broke while it settled is not told of"
    assert found["offered_rps"] == pytest.approx(30.0, rel=0.02)
    assert found["goodput_rps"] == pytest.approx(15.0, rel=0.02)
    assert found["goodput_of_capacity"] == pytest.approx(0.75, rel=0.02) and found["shed"] == 0.5
    assert found["refused_p99_ms"] == found["answered_p50_ms"] == 10.0
    assert found["memory_growth"] == 0.02


def test_failures_are_neither_goodput_nor_refusals() -> None:
    kinds = [Outcome.TIMED_OUT, Outcome.BROKEN, Outcome.GARBLED, Outcome.REFUSED]
    found = figures(replayed(kinds * 40), 20.0, SETTLE_S, [], retry_after=False, recovery_s=None)
    assert (found["goodput_rps"], found["shed"], found["failed"]) == (0.0, 0.0, 1.0)
    assert found["refused_p50_ms"] is None and found["answered_p99_ms"] is None


def test_recovery_is_when_answers_take_no_longer_than_before(server: Server) -> None:
    assert slow_ms([1.0, 2.0, 3.0]) == 5.0
    since = time.monotonic()
    server.takes_s = 0.2
    threading.Timer(0.5, lambda: setattr(server, "takes_s", 0.0)).start()
    found = recovered(server.base, since, slow=100.0)
    assert found is not None and 0.4 < found < 3.0


def test_a_server_that_refuses_at_once_keeps_its_goodput(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab.overload.SECOND_S", 0.1)

    def closed_loop(*_: Any, **__: Any) -> Load:
        return Load(100, 100, 0, 100.0, 1.0, 2.0, 1.0)

    said = [Utterance("turn on", "a")]
    found = overload(server.base, said, closed_loop, lambda: 40.0, factor=5.0, seconds=1.5, settle_s=0.3)
    assert found["shed"] > 0.02 and found["failed"] == 0.0
    assert found["retry_after"] is True and found["memory_growth"] == 0.0
    assert found["recovery_s"] is not None and found["recovery_s"] < 2.0


def test_a_refusal_without_a_time_is_told(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.overload.SECOND_S", 0.05)
    server.retry_after, server.takes_s = False, 0.05

    def closed_loop(*_: Any, **__: Any) -> Load:
        return Load(100, 100, 0, 100.0, 1.0, 2.0, 1.0)

    found = overload(
        server.base,
        [Utterance("turn on", "a")],
        closed_loop,
        lambda: 40.0,
        factor=3.0,
        seconds=1.5,
        settle_s=0.1,
    )
    assert found["retry_after"] is False
