"""Dapr's HTTP API: calls, events and state through this service's own sidecar.

The official SDK is not used: it brings grpcio and protobuf into every process (+30 MB, and pins that clash),
while the HTTP API is the stable, language-neutral contract. Every call has a timeout and every reply a size
bound.
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec

from services.common.settings import ServiceSettings

PUBSUB = "events"
STATE_TIMEOUT_S = 2.0
MAX_REPLY_BYTES = 16 * 1024 * 1024
# daprd keeps idle connections for longer than this, so a call never meets one that is just being closed.
KEEPALIVE_S = 15.0


class DaprUnavailable(Exception):
    """The call did not get through: `app` is the app-id, topic or state store called, `why` says what
    happened.
    """

    def __init__(self, app: str, why: str) -> None:
        super().__init__(f"{app} cannot be reached through Dapr: {why}")
        self.app = app
        self.why = why


class StateConflict(Exception):
    """A first-write save lost: the key was changed since the given ETag was read, or exists already."""


class Reply(msgspec.Struct, frozen=True):
    """What the called app answered."""

    status: int
    body: bytes


class StateItem(msgspec.Struct, frozen=True, omit_defaults=True):
    """One key to save: `value` is anything JSON can hold, `ttl_s` seconds to live (None: forever).

    With `first_write`, the save is refused when the key was changed since `etag` was read or, without an
    ETag, when the key exists.
    """

    key: str
    value: Any
    ttl_s: int | None = None
    etag: str | None = None
    first_write: bool = False

    def document(self) -> dict[str, Any]:
        """Return the item as Dapr's state API wants it."""
        document: dict[str, Any] = {"key": self.key, "value": self.value}
        if self.ttl_s is not None:
            document["metadata"] = {"ttlInSeconds": str(self.ttl_s)}
        if self.etag is not None:
            document["etag"] = self.etag
        if self.first_write:
            # Dapr's Redis store knows a lost first-write as such only when an ETag is sent; 0 is that of no
            # value.
            document.setdefault("etag", "0")
            document["options"] = {"concurrency": "first-write"}
        return document


class Stored(msgspec.Struct, frozen=True):
    """A value read from a state store, as JSON bytes, with the ETag to save it back with."""

    value: bytes
    etag: str | None


class _BulkRow(msgspec.Struct):
    key: str
    data: msgspec.Raw = msgspec.Raw()
    error: str = ""


_bulk = msgspec.json.Decoder(list[_BulkRow])


class Dapr:
    """Client of one sidecar; `start` it inside the event loop and `close` it at the end.

    `connections` bounds how many calls are out at once; further ones wait, inside their own timeout.
    """

    def __init__(self, settings: ServiceSettings, *, connections: int = 64) -> None:
        self._base = f"http://127.0.0.1:{settings.dapr_http_port}/v1.0" if settings.dapr_http_port else ""
        self._direct = {app: base.rstrip("/") for app, base in settings.direct.items()}
        self._sidecar_headers = {
            "dapr-api-token": settings.dapr_api_token.get_secret_value(),
            "content-type": "application/json",
        }
        self._direct_headers = {
            "dapr-api-token": settings.app_api_token.get_secret_value(),
            "content-type": "application/json",
        }
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None
        self._urls: dict[tuple[str, str], str] = {}

    async def start(self) -> None:
        """Open the connection pool."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._connections, keepalive_timeout=KEEPALIVE_S, use_dns_cache=False
            ),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
        )

    async def close(self) -> None:
        """Close the connection pool."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def invoke(
        self,
        app_id: str,
        method: str,
        body: bytes,
        *,
        timeout_s: float,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """POST JSON `body` to the path `method` of `app_id` and return its answer, whatever its status.

        Raises `DaprUnavailable` when the call does not get through within `timeout_s` seconds.
        """
        direct = self._direct.get(app_id)
        url = self._urls.get((app_id, method))
        if url is None:
            path = method.lstrip("/")
            url = f"{direct}/{path}" if direct else self._url(app_id, "invoke", app_id, "method") + f"/{path}"
            if len(self._urls) < 256:
                self._urls[(app_id, method)] = url
        sent = self._direct_headers if direct else self._sidecar_headers
        if headers:
            sent = {**sent, **headers}
        return await self._send(url, app_id, body, sent, timeout_s)

    async def publish(self, topic: str, data: dict[str, Any], *, timeout_s: float = 2.0) -> None:
        """Publish `data` on `topic` of the pub/sub component `events`; raises `DaprUnavailable`."""
        url = self._url(topic, "publish", PUBSUB, topic)
        reply = await self._send(url, topic, msgspec.json.encode(data), self._sidecar_headers, timeout_s)
        _require(topic, reply, 200, 204)

    async def get_state(self, store: str, key: str, *, timeout_s: float = STATE_TIMEOUT_S) -> bytes | None:
        """Return the JSON bytes under `key`, or None when there are none; raises `DaprUnavailable`."""
        stored = await self.read_state(store, key, timeout_s=timeout_s)
        return None if stored is None else stored.value

    async def read_state(self, store: str, key: str, *, timeout_s: float = STATE_TIMEOUT_S) -> Stored | None:
        """Return the value under `key` with its ETag, or None when there is none; raises
        `DaprUnavailable`.
        """
        url = self._url(store, "state", store, key)
        session = self._open(store)
        try:
            async with session.get(
                url, headers=self._sidecar_headers, timeout=aiohttp.ClientTimeout(total=timeout_s)
            ) as response:
                reply = Reply(response.status, await _bounded(response))
                etag = response.headers.get("etag")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise DaprUnavailable(store, _why(error, timeout_s)) from error
        if reply.status in (204, 404) or not reply.body:
            return None
        _require(store, reply, 200)
        return Stored(reply.body, etag)

    async def get_states(
        self, store: str, keys: list[str], *, timeout_s: float = STATE_TIMEOUT_S
    ) -> dict[str, bytes]:
        """Return the JSON bytes of those of `keys` that exist, in one call; raises `DaprUnavailable`."""
        url = self._url(store, "state", store, "bulk")
        body = msgspec.json.encode({"keys": keys, "parallelism": 10})
        reply = await self._send(url, store, body, self._sidecar_headers, timeout_s)
        if reply.status == 204:
            return {}
        _require(store, reply, 200)
        try:
            rows = _bulk.decode(reply.body)
        except ValueError as error:
            raise DaprUnavailable(store, f"its bulk answer cannot be read: {error}") from error
        # A store that is away answers 200 with an error in every row.
        failed = next((row.error for row in rows if row.error), None)
        if failed is not None:
            raise DaprUnavailable(store, failed)
        return {row.key: bytes(row.data) for row in rows if bytes(row.data) not in (b"", b"null")}

    async def save_state(
        self, store: str, items: list[StateItem], *, timeout_s: float = STATE_TIMEOUT_S
    ) -> None:
        """Save `items`; raises `StateConflict` when a first-write save lost, else `DaprUnavailable`."""
        url = self._url(store, "state", store)
        body = msgspec.json.encode([item.document() for item in items])
        reply = await self._send(url, store, body, self._sidecar_headers, timeout_s)
        if reply.status == 409:
            raise StateConflict(f"state store {store!r}: {_text(reply.body)}")
        _require(store, reply, 200, 201, 204)

    def _url(self, target: str, *segments: str) -> str:
        if not self._base:
            raise DaprUnavailable(target, "this process has no sidecar (DAPR_HTTP_PORT is not set)")
        return "/".join([self._base, *(quote(segment, safe="") for segment in segments)])

    def _open(self, target: str) -> aiohttp.ClientSession:
        if self._session is None:
            raise DaprUnavailable(target, "the client is not started, or closed already")
        return self._session

    async def _send(
        self, url: str, target: str, body: bytes, headers: dict[str, str], timeout_s: float
    ) -> Reply:
        session = self._open(target)
        if timeout_s <= 0:
            raise DaprUnavailable(target, "no time was left for the call")
        try:
            async with session.post(
                url,
                data=body,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=timeout_s),
                allow_redirects=False,
            ) as response:
                return Reply(response.status, await _bounded(response))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise DaprUnavailable(target, _why(error, timeout_s)) from error


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    if (response.content_length or 0) > MAX_REPLY_BYTES:
        raise aiohttp.ClientPayloadError(f"its reply is larger than {MAX_REPLY_BYTES} bytes")
    if response.content_length is not None:
        return await response.read()
    parts = []
    size = 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > MAX_REPLY_BYTES:
            raise aiohttp.ClientPayloadError(f"its reply is larger than {MAX_REPLY_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)


def _require(target: str, reply: Reply, *statuses: int) -> None:
    if reply.status not in statuses:
        raise DaprUnavailable(target, f"status {reply.status}: {_text(reply.body)}")


def _text(body: bytes) -> str:
    return body[:300].decode("utf-8", "replace")


def _why(error: Exception, timeout_s: float) -> str:
    if isinstance(error, asyncio.TimeoutError):
        return f"no answer within {timeout_s:g} s"
    return f"{type(error).__name__}: {error}"
