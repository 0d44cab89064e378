"""The tokenizers of the catalog, kept up to date while the service runs."""

from __future__ import annotations

import asyncio
from pathlib import Path

from services.common.catalog import (
    CatalogError,
    catalog_stamp,
    default_tier,
    read_catalog,
)
from services.common.logs import logger
from services.common.problems import unknown_model
from services.common.vocabulary import Vocabulary

log = logger("foremesh.tokenization")


class Vocabularies:
    """Every tokenizer of `catalog`; `watch` looks for new and changed entries. Raises `CatalogError` when
    made.
    """

    def __init__(self, catalog: Path, preferred_tier: str) -> None:
        self._catalog = catalog
        self._preferred = preferred_tier
        self._looking = asyncio.Lock()
        self._stamp = catalog_stamp(catalog)
        self._entries = _load(catalog, {})

    @property
    def names(self) -> list[str]:
        """Names of the models, sorted."""
        return sorted({entry.card.model for entry in self._entries.values()})

    @property
    def keys(self) -> list[str]:
        """Keys `<model>.<tier>` of the entries, sorted."""
        return sorted(self._entries)

    def find(self, model: str, tier: str | None) -> Vocabulary:
        """Return the tokenizer of `model` and `tier` (None: its default); raises the 404 `Problem`
        unknown-model.
        """
        if tier is None:
            cards = {key: entry.card for key, entry in self._entries.items()}
            card = default_tier(cards, model, self._preferred)
            key = "" if card is None else card.key
        else:
            key = f"{model}.{tier}"
        entry = self._entries.get(key)
        if entry is None:
            if tier is None:
                raise unknown_model(model, self.names)
            raise unknown_model(f"{model}.{tier}", self.keys)
        return entry

    async def watch(self, every_s: float) -> None:
        """Look at the catalog every `every_s` seconds, for ever; an entry that is broken leaves the old one
        in use.
        """
        while True:
            await asyncio.sleep(every_s)
            await self.look()

    async def look(self) -> None:
        """Look at the catalog now, and take what changed."""
        async with self._looking:
            stamp = catalog_stamp(self._catalog)
            if stamp == self._stamp:
                return
            try:
                self._entries = await asyncio.to_thread(_load, self._catalog, self._entries)
            except CatalogError as error:
                # Half-written entries are seen too: say it once per change, and look again when it changes
                # again.
                log.error("catalog changed but cannot be used", extra={"why": str(error)})
            else:
                log.info("catalog read again", extra={"models": self.keys})
            self._stamp = stamp


def _load(catalog: Path, loaded: dict[str, Vocabulary]) -> dict[str, Vocabulary]:
    entries: dict[str, Vocabulary] = {}
    shared = {one.shared: one for one in loaded.values()}
    for key, card in read_catalog(catalog).items():
        old = loaded.get(key)
        if old is not None and old.card == card:
            entries[key] = old
        else:
            entries[key] = Vocabulary(card, shared.get((card.tokenizer, card.max_tokens)))
            shared[entries[key].shared] = entries[key]
    return entries
