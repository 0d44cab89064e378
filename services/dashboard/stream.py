"""`/stream`: the feed as server-sent events to one page."""

from __future__ import annotations

import asyncio

from services.common import problems
from services.common.asgi import Receive, Scope, Send
from services.dashboard.feed import Client, Feed, FeedClosed, TooManyPages

SEND_S = 30.0  # a page that takes nothing for this long holds a place that somebody else could use
RETRY = b"retry: 2000\n\n"
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class Stream:
    """Plain ASGI; raises the 503 `Problem` when every place is taken."""

    def __init__(self, feed: Feed, *, keep_alive_s: float) -> None:
        self.feed = feed
        self.keep_alive_s = keep_alive_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the history, then each update, until the page goes away or the service does."""
        try:
            client = self.feed.join()
        except TooManyPages as why:
            raise problems.overloaded(str(why), retry_after_s=10) from why
        except FeedClosed as why:
            raise problems.unavailable("the dashboard is going down") from why
        leaving = asyncio.create_task(_when_gone(receive, client))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await _send(send, RETRY)
            while True:
                await _send(send, await client.take(self.keep_alive_s))
        except (FeedClosed, TimeoutError, OSError):
            return
        finally:
            self.feed.leave(client)
            leaving.cancel()


async def _send(send: Send, block: bytes) -> None:
    async with asyncio.timeout(SEND_S):
        await send({"type": "http.response.body", "body": block, "more_body": True})


async def _when_gone(receive: Receive, client: Client) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    client.close()
