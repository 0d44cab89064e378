"""Answers that were given lately, for the time when inference or tokenization is out of reach.

They are kept in this process and mirrored to Redis behind the answer. Redis is read only on the fallback
path: a read costs about 1 ms through the sidecar, more than the tiny model's answer, so it would slow down
every request to help the few that need it.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Sequence

import msgspec
from msgspec import UNSET, UnsetType
from prometheus_client import Counter

from services.common.catalog import Card
from services.common.dapr import Dapr, DaprUnavailable, StateItem
from services.common.logs import logger
from services.contracts.messages import Alternative, Slot

log = logger("foremesh.routing")

STORE = "answers"
READ_TIMEOUT_S = 0.3
MAX_READ = 64
MIRROR_WAITING = 1024

MIRRORED = Counter(
    "foremesh_routing_answers_mirrored", "Kept answers by what became of their copy.", ["outcome"]
)


class Kept(msgspec.Struct):
    """An answer worth keeping; `slots` as in the text without white space at its ends."""

    intent: str
    score: float
    alternatives: list[Alternative]
    version: str
    kept_at: float
    in_scope: bool = True
    slots: list[Slot] | UnsetType = UNSET


_kept = msgspec.json.Decoder(Kept)


class Answers:
    """At most `size` answers, each fresh for `ttl_s` seconds, the least recently used leaving first."""

    def __init__(self, dapr: Dapr, *, size: int, ttl_s: int, mirrored_per_s: int) -> None:
        self._dapr = dapr
        self._size = size
        self._ttl_s = ttl_s
        self._per_s = mirrored_per_s
        self._kept: OrderedDict[tuple[str, str], Kept] = OrderedDict()
        self._waiting: OrderedDict[tuple[str, str], Kept] = OrderedDict()
        self._reading = 0

    def keep(self, card: Card, text: str, kept: Kept) -> None:
        """Remember `kept`; it is mirrored to Redis later, at most twice in its time to live."""
        if not self._size:
            return
        key = (card.key, text)
        old = self._kept.get(key)
        if old is not None and old.version == kept.version and kept.kept_at - old.kept_at < self._ttl_s / 2:
            self._kept.move_to_end(key)
            if len(old.alternatives) >= len(kept.alternatives):
                return
        self._kept[key] = kept
        self._kept.move_to_end(key)
        if len(self._kept) > self._size:
            self._kept.popitem(last=False)
        if self._per_s:
            self._waiting[key] = kept
            if len(self._waiting) > MIRROR_WAITING:
                self._waiting.popitem(last=False)
                MIRRORED.labels("dropped").inc()

    def find(self, card: Card, text: str) -> Kept | None:
        """Return the fresh answer for `text` from this process, of this very version, or None."""
        kept = self._kept.get((card.key, text))
        if kept is None or kept.version != card.version or time.time() - kept.kept_at > self._ttl_s:
            return None
        return kept

    async def read(self, card: Card, texts: Sequence[str]) -> dict[str, Kept]:
        """Return the fresh answers for `texts` that Redis has; nothing, when it does not answer within 0.3
        s.
        """
        if not texts or self._reading >= 4:
            return {}
        keys = {state_key(card, card.version, text): text for text in texts[:MAX_READ]}
        self._reading += 1
        try:
            rows = await self._dapr.get_states(STORE, list(keys), timeout_s=READ_TIMEOUT_S)
        except DaprUnavailable:
            return {}
        finally:
            self._reading -= 1
        found = {}
        for key, value in rows.items():
            try:
                kept = _kept.decode(value)
            except ValueError:
                continue
            if key in keys and time.time() - kept.kept_at <= self._ttl_s:
                found[keys[key]] = kept
        return found

    async def mirror(self, every_s: float = 1.0) -> None:
        """Write what waits to Redis, for ever: one bulk call per `every_s`, of a bounded number of
        answers.
        """
        while True:
            await asyncio.sleep(every_s)
            await self.flush()

    async def flush(self) -> None:
        """Write the answers that have waited longest; what Redis does not take is given up, it is only a
        cache.
        """
        batch: list[StateItem] = []
        while self._waiting and len(batch) < self._per_s:
            (key, text), kept = self._waiting.popitem(last=False)
            batch.append(StateItem(_state_key(key, kept.version, text), kept, self._ttl_s))
        if not batch:
            return
        try:
            await self._dapr.save_state(STORE, batch)
        except DaprUnavailable as error:
            MIRRORED.labels("failed").inc(len(batch))
            log.debug("answers not mirrored", extra={"why": error.why})
        else:
            MIRRORED.labels("written").inc(len(batch))


def state_key(card: Card, version: str, text: str) -> str:
    """Return the key in the state store: `<model>.<tier>.<version>.<sha256 of text>`."""
    return _state_key(card.key, version, text)


def _state_key(key: str, version: str, text: str) -> str:
    return f"{key}.{version}.{hashlib.sha256(text.encode()).hexdigest()}"
