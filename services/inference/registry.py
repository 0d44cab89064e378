"""Tells the mesh, through the state store `registry`, which models this replica serves."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable

from services.common.catalog import Card
from services.common.dapr import Dapr, DaprUnavailable, StateItem
from services.common.logs import logger

log = logger("foremesh.inference")

STORE = "registry"


async def keep_registered(
    dapr: Dapr, cards: Callable[[], Iterable[Card]], replica: str, *, every_s: float, attempts: int
) -> None:
    """Register what `cards` gives now and every `every_s` seconds, for ever.

    An entry lives for five rounds, so that a model which nobody serves any more leaves the registry. One
    round makes up to `attempts` attempts, with growing, jittered pauses; a registry that is away never hurts
    an answer.
    """
    while True:
        for card in cards():
            await _register(dapr, card, replica, ttl_s=max(10, round(5 * every_s)), attempts=attempts)
        await asyncio.sleep(every_s)


async def _register(dapr: Dapr, card: Card, replica: str, *, ttl_s: int, attempts: int) -> None:
    pause_s = 0.25
    why = ""
    for _ in range(attempts):
        entry = {**card.summary(), "registered_by": replica, "registered_at": round(time.time(), 3)}
        try:
            await dapr.save_state(STORE, [StateItem(card.key, entry, ttl_s)])
        except DaprUnavailable as error:
            why = error.why
        else:
            return
        await asyncio.sleep(pause_s * (0.5 + random.random()))
        pause_s = min(5.0, pause_s * 2)
    log.warning("model not registered", extra={"key": card.key, "attempts": attempts, "why": why})
