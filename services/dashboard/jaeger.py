"""Reads traces from Jaeger's query API. Every call has a time-out, every answer a size limit."""

from __future__ import annotations

import time
from asyncio import Lock
from typing import Any

import aiohttp

from services.dashboard.spans import Span, parse
from services.dashboard.traces import ENTRY, Waterfall, is_trace_id, linked_traces, summary, waterfall

MAX_ANSWER_BYTES = 16 * 1024 * 1024
MAX_LISTED = 50


class JaegerUnavailable(Exception):
    """Jaeger did not give an answer that can be read; the text says why."""


class Jaeger:
    """The traces of one mesh. A list is shared for `list_age_s`, so that many pages cost one query."""

    def __init__(self, url: str, *, service: str = ENTRY, timeout_s: float = 3.0, list_age_s: float = 3.0):
        self.url = url.rstrip("/")
        self.service = service
        self.list_age_s = list_age_s
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self._listed: list[dict[str, Any]] = []
        self._listed_at = float("-inf")
        self._listing = Lock()

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def recent(self, limit: int) -> list[dict[str, Any]]:
        """Summaries of the last traces of the service, newest first. Raises JaegerUnavailable."""
        async with self._listing:
            if time.monotonic() - self._listed_at > self.list_age_s:
                query = {"service": self.service, "limit": str(MAX_LISTED), "lookback": "1h"}
                found = _read(await self._get("/api/traces", query) or b"{}")
                lines = [summary(trace_id, spans) for trace_id, spans in found.items()]
                self._listed = sorted(lines, key=lambda one: float(one["started_at"]), reverse=True)
                self._listed_at = time.monotonic()
            return self._listed[:limit]

    async def trace(self, trace_id: str) -> Waterfall | None:
        """The waterfall of a trace with the shared calls it links to; None while Jaeger does not know it.

        Raises JaegerUnavailable; ValueError when `trace_id` is not a trace id.
        """
        if not is_trace_id(trace_id):
            raise ValueError(f"'{trace_id}' is not a trace id: 16 to 32 hexadecimal digits")
        spans = await self._spans(trace_id)
        if not spans:
            return None
        linked = {other: await self._spans(other) for other in linked_traces(spans)}
        return waterfall(trace_id, spans, {other: found for other, found in linked.items() if found})

    async def _spans(self, trace_id: str) -> list[Span]:
        body = await self._get(f"/api/traces/{trace_id}")
        return [] if body is None else next(iter(_read(body).values()), [])

    async def _get(self, path: str, query: dict[str, str] | None = None) -> bytes | None:
        """The body of an answer, None for a 404: Jaeger's word for a trace that it has not seen."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        try:
            async with self._session.get(self.url + path, params=query, allow_redirects=False) as answer:
                if answer.status == 404:
                    return None
                body = bytearray()
                async for part in answer.content.iter_chunked(1 << 16):
                    body += part
                    if len(body) > MAX_ANSWER_BYTES:
                        raise JaegerUnavailable(f"{path} is larger than {MAX_ANSWER_BYTES >> 20} MiB")
        except TimeoutError as why:
            raise JaegerUnavailable(
                f"Jaeger at {self.url} did not answer in {self._timeout.total} s"
            ) from why
        except (aiohttp.ClientError, OSError) as why:
            raise JaegerUnavailable(f"Jaeger at {self.url} cannot be reached: {why}") from why
        if answer.status != 200:
            raise JaegerUnavailable(f"Jaeger at {self.url} answered {answer.status} to {path}")
        return bytes(body)


def _read(body: bytes) -> dict[str, list[Span]]:
    try:
        return parse(body)
    except ValueError as why:
        raise JaegerUnavailable(str(why)) from why
