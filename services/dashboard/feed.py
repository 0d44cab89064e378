"""What pages see, live: bounded rings of recent history and one bounded queue per page.

`publish` never waits: an update is encoded once, put into the ring of its kind and into every page's queue. A
page that reads too slowly loses its oldest updates and is told how many; nobody else notices.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

KEEP_ALIVE = b": still here\n\n"


class TooManyPages(Exception):
    """Every place for a page is taken."""


class FeedClosed(Exception):
    """The service is going down: no more updates will come."""


def sse(kind: str, data: Any) -> bytes:
    """One server-sent event (WHATWG HTML, 9.2). JSON escapes line breaks, so `data` is one line."""
    return b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"


class Ring:
    """The last `window_s` seconds of one kind of update, at most `limit`, without redelivery's doubles."""

    def __init__(self, window_s: float, limit: int) -> None:
        self.window_s = window_s
        self.limit = limit
        self._kept: OrderedDict[Any, tuple[float, Any]] = OrderedDict()

    def add(self, key: Any, t: float, data: Any, now: float) -> bool:
        """Keep `data` of time `t` (epoch seconds) under `key`; False when it is old or was here already."""
        if key in self._kept or t < now - self.window_s:
            return False
        self._kept[key] = (t, data)
        while len(self._kept) > self.limit:
            self._kept.popitem(last=False)
        return True

    def recent(self, now: float) -> list[Any]:
        """What is inside the window, by time."""
        inside = [one for one in self._kept.values() if one[0] >= now - self.window_s]
        return [data for _, data in sorted(inside, key=lambda one: one[0])]


class Client:
    """The queue of one open page."""

    def __init__(self, limit: int) -> None:
        self.dropped = 0
        self._waiting: deque[bytes] = deque()
        self._limit = limit
        self._wake = asyncio.Event()
        self._closed = False

    def put(self, event: bytes) -> bool:
        """Queue an event; False when the oldest one had to make room for it."""
        full = len(self._waiting) >= self._limit
        if full:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(event)
        self._wake.set()
        return not full

    def close(self) -> None:
        """End the page's stream after what is queued."""
        self._closed = True
        self._wake.set()

    async def take(self, patience_s: float) -> bytes:
        """Everything queued, as one block; after `patience_s` of silence a keep-alive. Raises FeedClosed."""
        if not self._waiting and not self._closed:
            try:
                async with asyncio.timeout(patience_s):
                    await self._wake.wait()
            except TimeoutError:
                return KEEP_ALIVE
        self._wake.clear()
        if not self._waiting:
            raise FeedClosed
        block = b"".join(self._waiting)
        self._waiting.clear()
        if self.dropped:
            block = sse("gap", {"dropped": self.dropped}) + block
            self.dropped = 0
        return block


class Feed:
    """Rings, the newest of what has no history, and the open pages."""

    def __init__(
        self,
        rings: Mapping[str, Ring],
        *,
        max_clients: int,
        client_queue: int,
        on_drop: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.rings = dict(rings)
        self.latest: dict[str, Any] = {}
        self.clients: set[Client] = set()
        self.max_clients = max_clients
        self.client_queue = client_queue
        self.clock = clock
        self._on_drop = on_drop
        self._closed = False

    def publish(self, kind: str, data: Any, *, key: Any = None, t: float | None = None) -> bool:
        """Send `data` to every page and remember it: in the ring of its kind, or as the newest of its kind.

        False when the ring knew it already (Redis delivers at least once) or it is older than the window.
        """
        now = self.clock()
        ring = self.rings.get(kind)
        if ring is None:
            self.latest[kind] = data
        elif not ring.add(key, now if t is None else t, data, now):
            return False
        self._send(sse(kind, data))
        return True

    def history(self) -> bytes:
        """The event that makes a page whole: all rings and all newest values, with the server's clock."""
        now = self.clock()
        rings = {kind: ring.recent(now) for kind, ring in self.rings.items()}
        return sse("history", {"now": now, "rings": rings, "latest": self.latest})

    def join(self) -> Client:
        """A place for a page, with the history waiting in it. Raises TooManyPages, FeedClosed."""
        if self._closed:
            raise FeedClosed
        if len(self.clients) >= self.max_clients:
            raise TooManyPages(f"{self.max_clients} pages are open already")
        client = Client(self.client_queue)
        client.put(self.history())
        self.clients.add(client)
        return client

    def leave(self, client: Client) -> None:
        """Free the place of a page that went away."""
        self.clients.discard(client)

    def close(self) -> None:
        """End every stream: a server that drains would wait for them for ever."""
        self._closed = True
        for client in self.clients:
            client.close()

    def _send(self, event: bytes) -> None:
        for client in self.clients:
            if not client.put(event):
                self._on_drop()
