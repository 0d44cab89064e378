"""The feed: bounded rings, bounded queues, the format of server-sent events, and their stream."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import msgspec
import pytest

from services.common.problems import Problem
from services.dashboard.feed import KEEP_ALIVE, Client, Feed, FeedClosed, Ring, TooManyPages, sse
from services.dashboard.stream import Stream


def feed(**changes: Any) -> Feed:
    """A feed with one ring of 60 s at time 1000."""
    options: dict[str, Any] = {"max_clients": 2, "client_queue": 3, "clock": lambda: 1000.0} | changes
    return Feed({"traffic": Ring(60, 5)}, **options)


def decoded(block: bytes) -> list[tuple[str, Any]]:
    """(kind, data) of each event of a block."""
    events = []
    for text in block.decode().split("\n\n")[:-1]:
        kind, data = text.split("\n")
        events.append(
            (kind.removeprefix("event: "), msgspec.json.decode(data.removeprefix("data: ").encode()))
        )
    return events


def test_an_event_is_three_lines_whatever_its_text_holds() -> None:
    event = sse("decision", {"text": "a\nb\r\nevent: forged\ndata: {}\n\n<script>"})
    assert event.startswith(b"event: decision\ndata: {") and event.endswith(b"}\n\n")
    assert event.count(b"\n") == 3 and b"\r" not in event


def test_ring_forgets_what_is_old_and_what_is_too_much() -> None:
    ring = Ring(window_s=60, limit=3)
    assert not ring.add("old", 900.0, "old", now=1000.0)
    for t in (990.0, 980.0, 995.0, 999.0):
        assert ring.add(t, t, t, now=1000.0)
    assert ring.recent(1000.0) == [980.0, 995.0, 999.0]
    assert ring.recent(1050.0) == [995.0, 999.0]


def test_redelivered_events_are_shown_once() -> None:
    one = feed()
    client = one.join()
    assert one.publish("traffic", {"n": 1}, key=("gateway", 999.0), t=999.0)
    assert not one.publish("traffic", {"n": 1}, key=("gateway", 999.0), t=999.0)
    block = asyncio.run(client.take(1))
    assert [kind for kind, _ in decoded(block)] == ["history", "traffic"]


def test_a_new_page_gets_the_history_first() -> None:
    one = feed()
    one.publish("traffic", {"n": 1}, key=1, t=999.0)
    one.publish("mesh", {"mesh": "m"})
    ((kind, history),) = decoded(asyncio.run(one.join().take(1)))
    assert kind == "history"
    assert history == {"now": 1000.0, "rings": {"traffic": [{"n": 1}]}, "latest": {"mesh": {"mesh": "m"}}}


def test_a_slow_page_loses_its_oldest_updates_and_is_told() -> None:
    dropped: list[int] = []
    one = feed(on_drop=lambda: dropped.append(1))
    slow, quick = one.join(), one.join()
    asyncio.run(quick.take(1))
    for n in range(5):
        one.publish("traffic", n, key=n, t=999.0)
        assert decoded(asyncio.run(quick.take(1))) == [("traffic", n)]
    assert decoded(asyncio.run(slow.take(1))) == [
        ("gap", {"dropped": 3}),
        *(("traffic", n) for n in (2, 3, 4)),
    ]
    assert len(dropped) == 3 and slow.dropped == 0


def test_places_are_bounded_and_given_back() -> None:
    one = feed()
    first, _ = one.join(), one.join()
    with pytest.raises(TooManyPages, match="2 pages"):
        one.join()
    one.leave(first)
    one.join()


def test_silence_is_filled_and_the_end_is_announced() -> None:
    async def scenario() -> None:
        client = Client(3)
        assert await client.take(0.01) == KEEP_ALIVE
        client.put(b"last")
        client.close()
        assert await client.take(1) == b"last"
        with pytest.raises(FeedClosed):
            await client.take(1)

    asyncio.run(scenario())


def test_a_closed_feed_takes_no_more_pages() -> None:
    one = feed()
    one.close()
    with pytest.raises(FeedClosed):
        one.join()


def test_stream_sends_history_then_updates_and_gives_its_place_back() -> None:
    async def scenario() -> tuple[list[MutableMapping[str, Any]], int]:
        one = feed()
        sent: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        gone = asyncio.Event()

        async def receive() -> MutableMapping[str, Any]:
            await gone.wait()
            return {"type": "http.disconnect"}

        task = asyncio.create_task(Stream(one, keep_alive_s=5)({"type": "http"}, receive, sent.put))
        messages = [await asyncio.wait_for(sent.get(), 1) for _ in range(3)]
        one.publish("traffic", 7, key=7, t=999.0)
        messages.append(await asyncio.wait_for(sent.get(), 1))
        gone.set()
        await asyncio.wait_for(task, 1)
        return messages, len(one.clients)

    sent, open_pages = asyncio.run(scenario())
    assert dict(sent[0]["headers"])[b"content-type"].startswith(b"text/event-stream")
    assert sent[1]["body"].startswith(b"retry: ")
    assert sent[2]["body"].startswith(b"event: history\n")
    assert decoded(sent[3]["body"]) == [("traffic", 7)]
    assert open_pages == 0


def test_stream_without_a_place_is_a_503() -> None:
    async def scenario() -> None:
        one = feed(max_clients=0)

        async def nothing(*_: Any) -> Any:
            raise AssertionError("nothing is read or sent")

        await Stream(one, keep_alive_s=5)({"type": "http"}, nothing, nothing)

    with pytest.raises(Problem) as refused:
        asyncio.run(scenario())
    assert refused.value.status == 503 and refused.value.retry_after_s
