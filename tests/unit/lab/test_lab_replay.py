"""The open-loop driver against real servers on real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lab.http_pool import HttpPool
from lab.outcome import Outcome, Progress, Replay
from lab.replay import replay, replay_async
from lab.utterances import Utterance

SAID = [Utterance("turn it on", "light_on"), Utterance("停止", "stop")]
INTENTS = {said.text: said.intent for said in SAID}
Answer = Callable[["Asked"], Awaitable[bytes | None]]


class Asked:
    """One request as the server saw it."""

    def __init__(self, head: bytes, body: bytes) -> None:
        self.line, *lines = head.decode().split("\r\n")
        self.headers = dict(line.split(": ", 1) for line in lines if line)
        self.document: dict[str, Any] = json.loads(body)


class Server:
    """A minimal HTTP/1.1 server whose answers a test writes byte by byte (None closes the connection)."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.url = ""
        self.connections = 0
        self.under_way = 0
        self.most_under_way = 0
        self.asked: list[Asked] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                asked = Asked(head, await reader.readexactly(length))
                self.asked.append(asked)
                self.under_way += 1
                self.most_under_way = max(self.most_under_way, self.under_way)
                try:
                    answer = await self.answer(asked)
                finally:
                    self.under_way -= 1
                if answer is None:
                    break
                writer.write(answer)
                if b"connection: close" in answer.lower():
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(answer: Answer) -> Any:
    server = Server(answer)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()


def response(status: int, document: Any, *more: str) -> bytes:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    head = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *more, "", ""]
    return "\r\n".join(head).encode() + body


def chunked(*pieces: bytes) -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body


def right(asked: Asked) -> bytes:
    return response(200, {"intent": INTENTS[asked.document["text"]], "tier": "tiny", "degraded": False})


def run(answer: Answer, offsets: NDArray[np.float64], **options: Any) -> tuple[Replay, Server]:
    async def both() -> tuple[Replay, Server]:
        async with serving(answer) as server:
            return await replay_async(server.url, offsets, SAID, **options), server

    return asyncio.run(both())


def even(count: int, seconds: float) -> NDArray[np.float64]:
    return np.arange(count, dtype=np.float64) * (seconds / count)


def test_late_answers_do_not_delay_later_arrivals() -> None:
    async def slow(asked: Asked) -> bytes:
        await asyncio.sleep(1.0)
        return right(asked)

    result, server = run(slow, even(100, 0.5))
    assert result.count(Outcome.ANSWERED) == 100
    assert server.most_under_way == 100, "a closed loop would have waited for answers"
    assert np.percentile(result.lag_s, 95) < 0.3
    assert result.latency_s.min() >= 1.0
    assert np.all(result.correct == 1)
    assert result.tiers == ("tiny",)


QUICK_SERVER = """
import asyncio, uvloop
BODY = b'{"intent":"light_on","tier":"tiny","degraded":false}'
ANSWER = b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(BODY) + BODY

class Quick(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        asyncio.get_running_loop().call_later(0.005, self.transport.write, ANSWER)

async def main():
    server = await asyncio.get_running_loop().create_server(Quick, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

uvloop.run(main())
"""


def test_fifteen_hundred_requests_a_second_leave_most_of_a_core_free() -> None:
    server = subprocess.Popen([sys.executable, "-c", QUICK_SERVER], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}"
        spent, began = time.process_time(), time.monotonic()
        result = replay(url, even(4500, 3.0), SAID)
        cores = (time.process_time() - spent) / (time.monotonic() - began)
    finally:
        server.kill()
        server.wait(10)
    assert result.count(Outcome.ANSWERED) == 4500
    assert cores < 0.5


def test_latency_counts_from_the_scheduled_time_even_where_the_client_was_late() -> None:
    async def quick(asked: Asked) -> bytes:
        return right(asked)

    late = np.concatenate(([0.0], np.full(20, -0.5)))  # due before the start: the client can only be late
    result, _ = run(quick, np.sort(late))
    assert np.all(result.lag_s[:20] >= 0.5)
    assert np.all(result.latency_s[:20] >= result.lag_s[:20])


def test_connections_are_kept_and_bodies_are_the_utterances() -> None:
    async def quick(asked: Asked) -> bytes:
        return right(asked)

    result, server = run(quick, even(60, 0.6), trace_every_s=0.2)
    assert result.count(Outcome.ANSWERED) == 60
    assert server.connections == result.connections_opened < 30
    assert {asked.document["text"] for asked in server.asked} == set(INTENTS)
    assert all(asked.line == "POST /v1/intents HTTP/1.1" for asked in server.asked)
    sampled = [asked.headers["traceparent"] for asked in server.asked if "traceparent" in asked.headers]
    assert [parent.split("-")[1] for parent in sampled] == [trace_id for _, trace_id in result.traces]
    assert len(sampled) == 3
    assert all(parent.startswith("00-") and parent.endswith("-01") for parent in sampled)


def test_the_seed_decides_what_is_said() -> None:
    async def quick(asked: Asked) -> bytes:
        return right(asked)

    def said(seed: int) -> list[str]:
        _, server = run(quick, even(40, 0.2), seed=seed, trace_every_s=None)
        assert all("traceparent" not in asked.headers for asked in server.asked)
        return sorted(asked.document["text"] for asked in server.asked)

    assert said(5) == said(5)


def test_each_end_has_its_class() -> None:
    ends: list[bytes | None] = [
        response(200, {"intent": "nonsense", "tier": "base", "degraded": True}),
        response(503, {"title": "overloaded"}, "Retry-After: 1"),
        response(429, {}),
        response(500, {}),
        response(404, {}, "Connection: close"),
        response(200, b"<html>"),
        response(200, {"ids": [1]}),
        b"SMTP\r\n\r\n",
        None,
        chunked(b'{"int', b'ent": "light_on"}'),
    ]  # fmt: skip
    left = iter(ends)

    async def next_end(asked: Asked) -> bytes | None:
        return next(left)

    result, _ = run(next_end, even(len(ends), 1.0))
    assert [Outcome(value).name for value in result.outcome] == [
        "ANSWERED", "SHED", "SHED", "REFUSED", "REFUSED",
        "GARBLED", "GARBLED", "BROKEN", "BROKEN", "ANSWERED",
    ]  # fmt: skip
    assert result.status.tolist() == [200, 503, 429, 500, 404, 200, 200, 0, 0, 200]
    assert result.correct[0] == 0
    assert result.degraded.tolist() == [True] + [False] * 9
    assert result.tiers == ("base", "")


def test_an_answer_over_its_time_is_abandoned() -> None:
    async def never(asked: Asked) -> bytes:
        await asyncio.sleep(3)
        return right(asked)

    result, _ = run(never, even(10, 0.1), timeout_s=0.4)
    assert result.count(Outcome.TIMED_OUT) == 10
    assert np.all((result.latency_s >= 0.4) & (result.latency_s < 1.5))


def test_beyond_the_bound_nothing_is_sent_and_it_is_said() -> None:
    async def slow(asked: Asked) -> bytes:
        await asyncio.sleep(1.0)
        return right(asked)

    result, server = run(slow, even(50, 0.2), max_outstanding=8)
    assert result.count(Outcome.CLIENT_LIMITED) == 42
    assert result.count(Outcome.ANSWERED) == len(server.asked) == server.most_under_way == 8
    assert result.max_outstanding == 8


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        result = replay(url, even(20, 0.1), SAID)
    assert result.count(Outcome.BROKEN) == 20
    assert np.all(result.status == 0)


def test_progress_is_told_and_a_stop_leaves_the_rest_unsent() -> None:
    async def quick(asked: Asked) -> bytes:
        return right(asked)

    told: list[Progress] = []
    result, _ = run(quick, even(500, 5.0), on_progress=told.append, should_stop=lambda: len(told) >= 1)
    unsent = result.count(Outcome.UNSENT)
    assert 300 < unsent < 450
    assert told[-1].sent == told[-1].answered == 500 - unsent
    assert told[0].t_s == pytest.approx(1.0, abs=0.5)
    assert told[0].p95_ms is not None
    assert result.arrivals_per_second().sum() == 500 - unsent


def test_impossible_orders_are_refused() -> None:
    with pytest.raises(ValueError, match="no utterances"):
        replay("http://127.0.0.1:1", even(1, 1.0), [])
    with pytest.raises(ValueError, match="no http"):
        replay("https://example.org", even(1, 1.0), SAID)


def test_no_arrivals_no_requests() -> None:
    result = replay("http://127.0.0.1:1", np.empty(0), SAID)
    assert len(result.outcome) == 0
    assert result.arrivals_per_second().tolist() == []


def test_idle_connections_are_dropped_and_a_server_that_hangs_up_is_noticed() -> None:
    class Heard:
        def __init__(self) -> None:
            self.answers: list[int] = []
            self.next = asyncio.Event()

        def on_answer(self, ticket: int, status: int, body: bytes) -> None:
            self.answers.append(status)
            self.next.set()

        def on_broken(self, ticket: int) -> None:
            self.answers.append(-1)
            self.next.set()

    async def quick(asked: Asked) -> bytes:
        return right(asked)

    async def scenario() -> tuple[list[int], int]:
        async with serving(quick) as server:
            heard = Heard()
            pool = HttpPool(server.url + "/v1/intents", heard)
            body = pool.request(b'{"text": "turn it on"}')
            for ticket in range(3):
                pool.send(ticket, body, timeout_s=1.0)
                await asyncio.wait_for(heard.next.wait(), 5)
                heard.next.clear()
                pool.trim(asyncio.get_running_loop().time() + (10.0 if ticket == 1 else 0.0))
            pool.close()
            return heard.answers, server.connections

    assert asyncio.run(scenario()) == ([200, 200, 200], 2)
