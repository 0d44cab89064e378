"""Sessions: the last turns of a conversation, in Redis through Dapr.

A session is acknowledged only after Redis has it. Turns are written behind the answer: a lost Redis costs
turns, never an answer. One writer per process takes them in order; ETags keep two processes from overwriting
each other.
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections import OrderedDict

import msgspec
from msgspec import UNSET, UnsetType
from prometheus_client import Counter

from services.common.dapr import Dapr, DaprUnavailable, StateConflict, StateItem
from services.common.logs import logger
from services.common.problems import Problem, not_found, unavailable
from services.routing.requests import SESSION_ID

log = logger("foremesh.routing")

STORE = "sessions"
TURNS_KEPT = 10
WRITERS = 8
CONFLICTS = 3

TURNS = Counter("foremesh_routing_turns", "Turns of sessions by what became of them.", ["outcome"])


class Turn(msgspec.Struct):
    """One question and its answer; `t` is epoch seconds, to the microsecond: it tells turns apart. `context` is the
    text of the turn that it was read with, where it said too little by itself."""

    text: str
    intent: str
    score: float
    t: float
    context: str | UnsetType = UNSET


class Session(msgspec.Struct):
    """What is kept of a conversation; `created_at` is epoch seconds, `turns` the last ten, oldest first."""

    session_id: str
    created_at: float
    turns: list[Turn] = []


_sessions = msgspec.json.Decoder(Session)


class Sessions:
    """The store and the turns that wait for it: at most `waiting` sessions, each with its last ten turns."""

    def __init__(self, dapr: Dapr, *, ttl_s: int, waiting: int) -> None:
        self._dapr = dapr
        self._ttl_s = ttl_s
        self._max_waiting = waiting
        self._waiting: OrderedDict[str, list[Turn]] = OrderedDict()
        self._wake = asyncio.Event()

    async def create(self, session_id: str | None) -> Session:
        """Return the session, new or as it was created before; raises the 503 `Problem` when Redis has not
        got it.
        """
        session = Session(session_id or uuid.uuid4().hex, round(time.time(), 3))
        try:
            await self._save(session, None)
        except StateConflict:
            found = await self._read(session.session_id)
            if found is None:
                raise _away("it changed while it was created") from None
            return found[0]
        except DaprUnavailable as error:
            raise _away(error.why) from error
        return session

    async def get(self, session_id: str) -> Session:
        """Return the session with its turns, those included that are still to be written; raises 404 or
        503.
        """
        try:
            found = await self._read(session_id) if re.match(SESSION_ID, session_id) else None
        except DaprUnavailable as error:
            raise _away(error.why) from error
        if found is None:
            raise not_found(f"there is no session {session_id[:64]!r}; POST /v1/sessions makes one")
        session = found[0]
        session.turns = _merged(session.turns, self._waiting.get(session_id, []))
        return session

    async def turns(self, session_id: str, *, timeout_s: float) -> list[Turn]:
        """The turns of a session as far as they can be told in that time: none for one that is not there, or whose
        store is away."""
        try:
            async with asyncio.timeout(timeout_s):
                found = await self._read(session_id)
        except (TimeoutError, DaprUnavailable) as error:
            log.debug("no context", extra={"why": str(error)})
            return list(self._waiting.get(session_id, ()))
        return _merged(found[0].turns, self._waiting.get(session_id, [])) if found else []

    def note(self, session_id: str, turn: Turn) -> None:
        """Take `turn` to be written later."""
        turns = self._waiting.get(session_id)
        if turns is None:
            if len(self._waiting) >= self._max_waiting:
                _, lost = self._waiting.popitem(last=False)
                TURNS.labels("dropped").inc(len(lost))
            turns = self._waiting[session_id] = []
        elif len(turns) >= TURNS_KEPT:
            del turns[0]
        turns.append(turn)
        self._wake.set()

    async def write(self) -> None:
        """Write what waits, for ever; while Redis is away it tries again after growing pauses of at most 5
        s.
        """
        pause_s = 0.1
        while True:
            await self._wake.wait()
            self._wake.clear()
            if await self.flush():
                pause_s = 0.1
            else:
                pause_s = min(5.0, pause_s * 2)
                self._wake.set()
            # Turns of the same session that come together are written together.
            await asyncio.sleep(pause_s)

    async def flush(self) -> bool:
        """Write every session that has turns waiting; return whether Redis took all of them."""
        gate = asyncio.Semaphore(WRITERS)

        async def one(session_id: str) -> bool:
            async with gate:
                return await self._append(session_id)

        return all(await asyncio.gather(*(one(session_id) for session_id in list(self._waiting))))

    async def _append(self, session_id: str) -> bool:
        turns = list(self._waiting.get(session_id, ()))
        try:
            for _ in range(CONFLICTS):
                found = await self._read(session_id)
                if found is None:
                    TURNS.labels("unknown-session").inc(len(turns))
                    break
                session, etag = found
                session.turns = _merged(session.turns, turns)
                try:
                    await self._save(session, etag)
                except StateConflict:
                    continue
                TURNS.labels("written").inc(len(turns))
                break
            else:
                TURNS.labels("dropped").inc(len(turns))
        except DaprUnavailable as error:
            log.debug("turns not written yet", extra={"why": error.why})
            return False
        rest = [turn for turn in self._waiting.get(session_id, ()) if turn not in turns]
        if rest:
            self._waiting[session_id] = rest
            self._wake.set()
        else:
            self._waiting.pop(session_id, None)
        return True

    async def _read(self, session_id: str) -> tuple[Session, str | None] | None:
        stored = await self._dapr.read_state(STORE, session_id)
        if stored is None:
            return None
        try:
            return _sessions.decode(stored.value), stored.etag
        except ValueError as error:
            raise DaprUnavailable(STORE, f"session {session_id!r} cannot be read: {error}") from error

    async def _save(self, session: Session, etag: str | None) -> None:
        item = StateItem(session.session_id, session, self._ttl_s, etag, first_write=True)
        await self._dapr.save_state(STORE, [item])


def _merged(stored: list[Turn], more: list[Turn]) -> list[Turn]:
    """Return the last ten turns of both; a turn that was written already, before its write was known, counts
    once.
    """
    return [*stored, *(turn for turn in more if turn not in stored)][-TURNS_KEPT:]


def _away(why: str) -> Problem:
    log.warning("session store is away", extra={"why": why})
    return unavailable(
        "sessions cannot be kept right now: their store does not answer; intents still work", 2.0
    )
