"""A pool of keep-alive HTTP/1.1 connections for load generation: prepared request bytes in, answers out.

A general client (aiohttp, httpx) builds header objects, time-out handles and a response object for each
request, which costs several times the CPU (README.md, Choices), taken from the mesh that shares the machine.
The protocol itself is not written by hand: llhttp (through httptools) parses the answers. A response must say
how long it is (Content-Length or chunked); one that ends with its connection counts as broken.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol, cast
from urllib.parse import urlsplit

import httptools

_IDLE_S = 4.0  # idle connections are dropped before a server's own idle limit can race with a new request
_LARGEST_BODY = 1 << 20


class Listener(Protocol):
    """Who hears what became of a request; ``ticket`` is the caller's own number for it."""

    def on_answer(self, ticket: int, status: int, body: bytes) -> None:
        """A complete response has arrived."""

    def on_broken(self, ticket: int) -> None:
        """The connection could not be made, or ended before the response was complete."""


class HttpPool:
    """Sends each request on a connection of its own: an idle one if there is one, else a new one.

    The number of connections equals the number of requests outstanding, which the caller bounds. The pool
    sets no time limit on a request: the caller calls ``abandon`` when its time is over.
    """

    def __init__(self, url: str, listener: Listener) -> None:
        """``url``: ``http://host[:port]/path``; raises ValueError for another form."""
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"'{url}' is no http://host:port/path address")
        self.host = parts.hostname
        self.port = parts.port or 80
        self.authority = parts.netloc
        self.path = parts.path or "/"
        self._listener = listener
        self._idle: deque[_Connection] = deque()
        self._busy: dict[int, _Connection | asyncio.Task[None]] = {}
        self.opened = 0

    def request(self, body: bytes, headers: dict[str, str] | None = None) -> bytes:
        """The bytes of a POST with a JSON body: to be prepared once and sent many times."""
        lines = [f"POST {self.path} HTTP/1.1", f"Host: {self.authority}", "Content-Type: application/json"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        lines += [f"Content-Length: {len(body)}", "", ""]
        return "\r\n".join(lines).encode("latin-1") + body

    def send(self, ticket: int, request: bytes, *, timeout_s: float) -> None:
        """Sends at once, or as soon as a new connection is open; opening one takes at most ``timeout_s``."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable():
                self._busy[ticket] = connection
                connection.send(ticket, request)
                return
        self._busy[ticket] = asyncio.get_running_loop().create_task(self._open(ticket, request, timeout_s))

    def abandon(self, ticket: int) -> None:
        """Gives a request up: its connection is closed and the listener hears nothing more of it."""
        held = self._busy.pop(ticket, None)
        if isinstance(held, _Connection):
            held.drop()
        elif held is not None:
            held.cancel()

    def trim(self, now: float) -> None:
        """Closes connections that have been idle for some seconds; ``now`` is the event loop's time."""
        while self._idle and self._idle[0].idle_since < now - _IDLE_S:
            self._idle.popleft().drop()

    def close(self) -> None:
        """Closes every connection."""
        for ticket in list(self._busy):
            self.abandon(ticket)
        while self._idle:
            self._idle.popleft().drop()

    async def _open(self, ticket: int, request: bytes, timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                _, connection = await loop.create_connection(lambda: _Connection(self), self.host, self.port)
        except (OSError, TimeoutError):
            if self._busy.pop(ticket, None) is not None:
                self._listener.on_broken(ticket)
            return
        self.opened += 1
        self._busy[ticket] = connection
        connection.send(ticket, request)

    def answered(
        self, connection: _Connection, ticket: int, status: int, body: bytes, reusable: bool
    ) -> None:
        """A connection has a complete response (called by the connection)."""
        del self._busy[ticket]
        if reusable:
            self._idle.append(connection)
        else:
            connection.drop()
        self._listener.on_answer(ticket, status, body)

    def lost(self, connection: _Connection, ticket: int | None) -> None:
        """A connection has ended (called by the connection); ``ticket`` is the request it still carried."""
        if ticket is not None:
            if self._busy.pop(ticket, None) is not None:
                self._listener.on_broken(ticket)
        elif connection in self._idle:
            self._idle.remove(connection)


class _Connection(asyncio.Protocol):
    """One connection, at most one request at a time on it."""

    __slots__ = ("_body", "_parser", "_pool", "_reusable", "_size", "_ticket", "_transport", "idle_since")

    def __init__(self, pool: HttpPool) -> None:
        self._pool = pool
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.WriteTransport | None = None
        self._ticket: int | None = None
        self._body: list[bytes] = []
        self._size = 0
        self._reusable = True
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def usable(self) -> bool:
        """False once the server has said goodbye."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, ticket: int, request: bytes) -> None:
        self._ticket = ticket
        self._body.clear()
        self._size = 0
        if self._transport is not None:
            self._transport.write(request)

    def drop(self) -> None:
        """Closes without a word to the pool."""
        self._ticket = None
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            raise  # a fault of ours: let the loop report it
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._break()

    def on_body(self, chunk: bytes) -> None:
        """A piece of the body (called by the parser)."""
        self._size += len(chunk)
        if self._size <= _LARGEST_BODY:
            self._body.append(chunk)

    def on_message_complete(self) -> None:
        """The response is complete (called by the parser)."""
        status = self._parser.get_status_code()
        if status < 200 and status != 101:
            return
        ticket, self._ticket = self._ticket, None
        if ticket is None:
            self._break()
            return
        self.idle_since = asyncio.get_running_loop().time()
        body = b"".join(self._body) if self._size <= _LARGEST_BODY else b""
        self._pool.answered(self, ticket, status, body, self._parser.should_keep_alive())

    def connection_lost(self, exc: Exception | None) -> None:
        ticket, self._ticket = self._ticket, None
        self._transport = None
        self._pool.lost(self, ticket)

    def _break(self) -> None:
        if self._transport is not None:
            self._transport.abort()
