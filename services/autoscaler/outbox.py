"""Decisions on their way to the mesh: published and stored behind the loop, which never waits for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import Any

import msgspec

from services.autoscaler.gauges import DROPPED
from services.common.dapr import Dapr, DaprUnavailable, StateItem
from services.common.logs import logger

TOPIC = "decisions"
STORE = "scaling"
LATEST = "decision.latest"
RECENT = "decisions.recent"
KEPT = 100
EVERY = 5
"""Decisions after which the long list is stored even if nothing changed: it is a hundred times the short
one.
"""

_BOUND = 32
_FLUSH_S = 1.5

log = logger("foremesh.autoscaler.outbox")


class Outbox:
    """A bounded queue in front of the sidecar; when it is full the oldest decision is dropped and counted."""

    def __init__(self, dapr: Dapr) -> None:
        """dapr: started and closed by the owner."""
        self._dapr = dapr
        self._waiting: deque[dict[str, Any]] = deque(maxlen=_BOUND)
        self._more = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self._restored = False
        self._unstored = EVERY
        self._away = False
        self.recent: deque[dict[str, Any]] = deque(maxlen=KEPT)

    def start(self) -> None:
        """Begin to send."""
        self._task = asyncio.create_task(self._run(), name="outbox")

    async def close(self) -> None:
        """Send what waits, for 1.5 s at most, and stop."""
        if self._task is None:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), _FLUSH_S)
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def put(self, event: dict[str, Any]) -> None:
        """Hand over a message of topic `decisions`; returns at once."""
        if len(self._waiting) == _BOUND:
            DROPPED.inc()
        self._waiting.append(event)
        self.recent.append(event)
        self._idle.clear()
        self._more.set()

    async def _run(self) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            changed = False
            event: dict[str, Any] | None = None
            try:
                while self._waiting:
                    event = self._waiting.popleft()
                    changed = changed or event["wanted"] != event["previous"]
                    await self._dapr.publish(TOPIC, event)
                if event is not None:
                    await self._store(event, changed)
            except DaprUnavailable as error:
                self._say(error)
            else:
                self._say(None)
            if not self._waiting:
                self._idle.set()

    async def _store(self, latest: dict[str, Any], changed: bool) -> None:
        await self._restore()
        items = [StateItem(LATEST, latest)]
        self._unstored += 1
        if changed or self._unstored >= EVERY:
            items.append(StateItem(RECENT, list(self.recent)))
        await self._dapr.save_state(STORE, items)
        if len(items) > 1:
            self._unstored = 0

    async def _restore(self) -> None:
        """Put what an earlier run left in front of this one's: it is shown to people, nothing is decided by
        it.
        """
        if self._restored:
            return
        stored = await self._dapr.get_state(STORE, RECENT)
        self._restored = True
        if stored is None:
            return
        try:
            older = msgspec.json.decode(stored, type=list[dict[str, Any]])
        except msgspec.DecodeError as error:
            log.warning("stored decisions cannot be read, beginning anew", extra={"why": str(error)})
            return
        room = KEPT - len(self.recent)
        self.recent.extendleft(reversed(older[-room:] if room else []))

    def _say(self, error: DaprUnavailable | None) -> None:
        """Once when the sidecar goes and once when it is back, not at every tick."""
        if error is not None and not self._away:
            log.warning("decisions cannot be published", extra={"why": str(error)})
        elif error is None and self._away:
            log.info("decisions are published again")
        self._away = error is not None
