"""The models of the catalog as this process holds them: loaded when they are asked for, replaced when their card
changes, let go when nobody asks or their memory is needed.

One load at a time, in a thread, while everything else goes on answering. A replacement is loaded and warmed beside the
old model, which answers until the new one is ready and then finishes what it has. What cannot be used is said once and
leaves the old model in place.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from prometheus_client import Counter, Gauge

from services.common.catalog import Card, CatalogError, catalog_stamp, read_card
from services.common.logs import logger
from services.common.memory import give_back, resident_mb
from services.common.problems import Problem, unknown_model
from services.contracts.messages import InferOutcome
from services.inference.batching import ITEMS, Batcher
from services.inference.model import Model, Query

log = logger("foremesh.inference")

DEPTH = Gauge("foremesh_inference_queue_depth", "Items that wait for a run.")
HELD = Gauge("foremesh_inference_models", "Models in memory.")
LOADS = Counter("foremesh_inference_loads", "Loads by what became of them.", ["outcome"])
RESIDENT = Gauge("foremesh_inference_resident_bytes", "Resident memory of this process.")

ROUGHLY = 2.0
"""Memory that a model takes, of the size of its file, before it was measured."""


class Held:
    """A model in memory, with the queue before it. used: when it was asked last, `time.monotonic`; busy: calls that are
    in it; retired: it gets no further ones."""

    __slots__ = ("batcher", "busy", "model", "retired", "used")

    def __init__(self, model: Model, batcher: Batcher) -> None:
        self.model = model
        self.batcher = batcher
        self.used = time.monotonic()
        self.busy = 0
        self.retired = False

    @property
    def card(self) -> Card:
        """The card that the model was loaded by."""
        return self.model.card

    async def answer(
        self, queries: Sequence[Query | InferOutcome], deadlines_s: Sequence[float], note: Any = None
    ) -> list[InferOutcome]:
        """An outcome for each query, in order: what is one already stays it, and what the model cannot read is a 400 of
        its own. `deadlines_s` and `note`: see `Batcher.submit`."""
        outcomes = [one if isinstance(one, InferOutcome) else self._refusal(one) for one in queries]
        good = [at for at, outcome in enumerate(outcomes) if outcome is None]
        if refused := len(outcomes) - len(good):
            ITEMS.labels("refused").inc(refused)
        asked = [query for query in (queries[at] for at in good) if isinstance(query, Query)]
        ran = iter(await self.batcher.submit(asked, [deadlines_s[at] for at in good], note) if good else ())
        return [next(ran) if outcome is None else outcome for outcome in outcomes]

    def _refusal(self, query: Query) -> InferOutcome | None:
        why = self.model.refuse(query)
        return None if why is None else InferOutcome(400, reason="refused", detail=why)


Make = Callable[[Card], Held]
"""Loads and warms the model of a card; runs in a thread. Raises `CatalogError`."""


class Repository:
    """The entries of `catalog` by key `<model>.<tier>`, and those of them that are in memory.

    pinned: keys that are loaded at the start and stay; memory_mb: resident memory (10^6 bytes) beyond which no model is
    loaded before another one goes, 0: no bound; idle_s: seconds without a call after which a model goes, 0: never.
    `readings` counts how often the catalog was read: what was derived from its cards holds until it changes.
    """

    def __init__(
        self, catalog: Path, make: Make, *, pinned: Sequence[str], memory_mb: float = 0.0, idle_s: float = 0.0
    ) -> None:
        self._catalog = catalog
        self._make = make
        self._pinned = list(pinned)
        self._memory_mb = memory_mb
        self._idle_s = idle_s
        self._cards: dict[str, Card] = {}
        self._broken: dict[str, str] = {}
        self._held: dict[str, Held] = {}
        self._took: dict[str, float] = {}
        self._loading = asyncio.Lock()
        self.readings = 0
        self._loads: set[asyncio.Task[Held]] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._stamp = catalog_stamp(catalog)
        DEPTH.set_function(lambda: self.queued)
        self._read()

    @property
    def cards(self) -> Mapping[str, Card]:
        """Every entry that can be read, by key; one in memory by the card that it was loaded by."""
        return self._cards | {key: held.card for key, held in self._held.items()}

    @property
    def held(self) -> Mapping[str, Held]:
        """The models in memory, by key."""
        return self._held

    @property
    def broken(self) -> Mapping[str, str]:
        """Entries that cannot be used, with the reason."""
        return self._broken

    @property
    def ready(self) -> bool:
        """Whether every pinned model is there and answers."""
        return all(key in self._held and self._held[key].batcher.alive for key in self._pinned)

    @property
    def queued(self) -> int:
        """Items that wait for a run, of all models."""
        return sum(held.batcher.queued for held in self._held.values())

    def preload(self) -> None:
        """Load what is pinned, outside of any loop. Raises `CatalogError` where that is not in the catalog, cannot be
        used, or is more than the memory allows."""
        for key in self._pinned:
            card = self._cards.get(key)
            if card is None:
                model = key.partition(".")[0]
                tiers = [one.tier for one in self._cards.values() if one.model == model]
                raise CatalogError(
                    self._broken.get(key)
                    or f"model '{key}' is not in the catalog {self._catalog}; tiers of {model!r} there: "
                    f"{', '.join(tiers) or 'none'}; set FOREMESH_MODEL, FOREMESH_TIER or FOREMESH_CATALOG"
                )
            self._held[key] = self._measured(card)
        if self._memory_mb and resident_mb() > self._memory_mb:
            raise CatalogError(
                f"FOREMESH_MEMORY_MB={self._memory_mb:g} is less than the {resident_mb():.0f} MB that this "
                f"process needs with {', '.join(self._pinned)} alone; raise it, or pin a smaller tier (FOREMESH_TIER)"
            )

    def start(self) -> None:
        """Let the models that are in memory answer; call it inside the loop that asks them."""
        for held in self._held.values():
            held.batcher.start()
        HELD.set(len(self._held))

    async def take(self, key: str) -> Held:
        """Return the model, loaded by now, for a call that ends with `leave`. Raises what `load` raises."""
        held = self._held.get(key)
        if held is not None:
            held.busy += 1
            return held
        # A caller that goes does not end the load: its thread would go on, beside the next one's and for nobody.
        load = asyncio.get_running_loop().create_task(self._load(key))
        self._loads.add(load)
        load.add_done_callback(self._loads.discard)
        try:
            return await asyncio.shield(load)
        except asyncio.CancelledError:
            load.add_done_callback(self._left)
            raise

    def leave(self, held: Held) -> None:
        """End a call; a retired model goes with its last one."""
        held.busy -= 1
        held.used = time.monotonic()
        if held.retired and not held.busy:
            self._close(held)

    async def load(self, key: str) -> Held:
        """Return the model, in memory by now.

        Raises a `Problem`: 404 unknown-model for a key that is not in the catalog, 503 model-unusable for an entry that
        is broken, 503 no-room where the models in memory leave no room for it.
        """
        held = await self.take(key)
        self.leave(held)
        return held

    async def unload(self, key: str) -> bool:
        """Let a model go once its calls have ended; whether it was in memory. Raises the 409 `Problem` for a pinned
        one."""
        if key in self._pinned:
            raise Problem(
                409,
                "model-pinned",
                "Model is pinned",
                f"{key} is what this replica is there for; it stays loaded",
            )
        async with self._loading:
            held = self._held.pop(key, None)
            if held is None:
                return False
            self._retire(held)
            return True

    async def watch(self, every_s: float) -> None:
        """Look at the catalog, at idle models and at the memory every `every_s` seconds, for ever."""
        while True:
            await asyncio.sleep(every_s)
            await self.look()
            async with self._loading:
                self._let_idle_go()
                self._keep_below(0.0)
            RESIDENT.set(resident_mb() * 1e6)

    async def look(self) -> None:
        """Look at the catalog now: replace what changed among the models in memory, let go what it no longer has."""
        stamp = await asyncio.to_thread(catalog_stamp, self._catalog)
        async with self._loading:
            if stamp == self._stamp:
                return
            self._stamp = stamp
            before = dict(self._held)
            self._read()
            for key, held in before.items():
                card = self._cards.get(key)
                if card is None and key not in self._broken and key not in self._pinned:
                    self._retire(self._held.pop(key))
                elif card is not None and card != held.card:
                    await self._replace(key, held)
            HELD.set(len(self._held))

    async def close(self) -> None:
        """Let every model go, and wait until all are gone."""
        await asyncio.gather(*self._loads, return_exceptions=True)
        for held in [*self._held.values()]:
            self._close(held)
        self._held.clear()
        if self._closing:
            await asyncio.gather(*self._closing)

    async def _load(self, key: str) -> Held:
        """The model, loaded by now, with a call in it: who waits for the lock could let it go before its caller is
        told."""
        async with self._loading:
            held = self._held.get(key)
            if held is None:
                held = self._held[key] = await self._loaded(key)
                HELD.set(len(self._held))
            held.busy += 1
            return held

    def _left(self, load: asyncio.Task[Held]) -> None:
        """End the call of a caller that did not wait for its load."""
        if not load.cancelled() and load.exception() is None:
            self.leave(load.result())

    def _read(self) -> None:
        """Read the cards; a broken one concerns its own entry alone."""
        cards, broken = {}, {}
        for path in sorted(self._catalog.glob("*/*/card.json")):
            key = f"{path.parent.parent.name}.{path.parent.name}"
            try:
                card = read_card(path.parent)
                if card.key != key:
                    raise CatalogError(
                        f"{path} names {card.key}, but lies where {key} belongs; move or correct it"
                    )
                cards[key] = card
            except CatalogError as error:
                broken[key] = str(error)
                log.error("catalog entry cannot be used", extra={"key": key, "why": str(error)})
        self._cards, self._broken = cards, broken
        self.readings += 1

    async def _replace(self, key: str, old: Held) -> None:
        try:
            new = await self._loaded(key)
        except Problem as problem:
            if problem.slug == "no-room":
                self._stamp = ()  # there may be some the next time
                log.warning("model not replaced", extra={"key": key, "why": problem.detail})
            return
        self._held[key] = new
        self._retire(old)
        log.info("model replaced", extra={"key": key, "from": old.card.version, "to": new.card.version})

    async def _loaded(self, key: str) -> Held:
        """A new one, beside what there is; call it under the lock."""
        card = self._cards.get(key)
        if key in self._broken:
            raise self._unusable(key)
        if card is None:
            raise unknown_model(key, self._cards)
        if not self._keep_below(self._took.get(key, card.size_mb * ROUGHLY)):
            LOADS.labels("no-room").inc()
            raise self._no_room(key)
        try:
            held = await asyncio.to_thread(self._measured, card)
        except CatalogError as error:
            LOADS.labels("refused").inc()
            self._broken[key] = str(error)
            log.error("catalog entry cannot be used", extra={"key": key, "why": str(error)})
            raise self._unusable(key) from error
        held.batcher.start()
        if self._memory_mb and resident_mb() > self._memory_mb and not self._keep_below(0.0):
            # It took more than was thought; what answers already comes first.
            self._close(held)
            LOADS.labels("no-room").inc()
            raise self._no_room(key)
        LOADS.labels("loaded").inc()
        log.info("model loaded", extra={"key": key, "version": card.version, "mb": round(self._took[key], 1)})
        return held

    def _measured(self, card: Card) -> Held:
        """Load a model and keep what that took. Raises `CatalogError`."""
        before = resident_mb()
        held = self._make(card)
        self._took[card.key] = max(resident_mb() - before, card.size_mb)
        return held

    def _keep_below(self, need_mb: float) -> bool:
        """Let the models go that were used longest ago until `need_mb` more fit; whether they do."""
        if not self._memory_mb:
            return True
        while resident_mb() + need_mb > self._memory_mb:
            free = [key for key, held in self._held.items() if key not in self._pinned and not held.busy]
            if not free:
                return False
            key = min(free, key=lambda each: self._held[each].used)
            log.info("model let go", extra={"key": key, "why": "memory"})
            _forget(self._held.pop(key))  # its thread has nothing to do, and ends at once
        return True

    def _let_idle_go(self) -> None:
        if not self._idle_s:
            return
        since = time.monotonic() - self._idle_s
        for key, held in [*self._held.items()]:
            if key not in self._pinned and not held.busy and held.used < since:
                log.info("model let go", extra={"key": key, "why": "idle"})
                self._retire(self._held.pop(key))

    def _retire(self, held: Held) -> None:
        held.retired = True
        HELD.set(len(self._held))
        if not held.busy:
            self._close(held)

    def _close(self, held: Held) -> None:
        """Forget it without holding up the loop."""
        task = asyncio.get_running_loop().create_task(asyncio.to_thread(_forget, held))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _unusable(self, key: str) -> Problem:
        return Problem(503, "model-unusable", "Model cannot be used", self._broken[key], retry_after_s=10.0)

    def _no_room(self, key: str) -> Problem:
        there = ", ".join(f"{name} {self._took[name]:.0f} MB" for name in self._held) or "no model"
        return Problem(
            503,
            "no-room",
            "No room for the model",
            f"{key} does not fit below FOREMESH_MEMORY_MB={self._memory_mb:g} beside {there}; raise it, or ask for a "
            "smaller tier",
            retry_after_s=10.0,
        )


def _forget(held: Held) -> None:
    """End its thread and give its memory back."""
    held.batcher.close()
    held.model.close()
    give_back()
