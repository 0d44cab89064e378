"""The tokenizers of the catalog, kept up to date while the service runs."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from tokenizers import Tokenizer

from services.common.catalog import (
    Card,
    CatalogError,
    catalog_stamp,
    default_tier,
    read_catalog,
    read_verified,
)
from services.common.problems import Problem
from services.common.telemetry import logger

# One thread encodes: a pool of the library's own would take the cores that the models run on.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

log = logger("foremesh.tokenization")


class Vocabulary:
    """One entry's tokenizer: `encode` turns texts into ids of at most `max_tokens` tokens."""

    def __init__(self, card: Card) -> None:
        content = read_verified(card, "tokenizer.json")
        try:
            self._tokenizer = Tokenizer.from_buffer(content)
        except Exception as error:  # the binding raises bare Exception
            raise CatalogError(f"{card.folder / 'tokenizer.json'} is not a tokenizer: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(card.max_tokens)
        unknown = self._tokenizer.token_to_id("[UNK]")
        # A model reads at least one token: text that leaves none, such as a lone NUL, is one unknown token.
        self._nothing = [0 if unknown is None else unknown]
        self._max_tokens = card.max_tokens
        self.card = card

    def encode(self, texts: list[str]) -> tuple[list[list[int]], list[bool]]:
        """Return the ids of each text and whether it was cut at `max_tokens`; runs outside the interpreter
        lock.
        """
        ids: list[list[int]] = []
        truncated: list[bool] = []
        for encoding in self._tokenizer.encode_batch_fast(texts):
            tokens = encoding.ids
            ids.append(tokens or self._nothing)
            truncated.append(len(tokens) >= self._max_tokens and bool(encoding.overflowing))
        return ids, truncated


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
            wanted = model if tier is None else f"{model}.{tier}"
            known = self.names if tier is None else self.keys
            raise Problem(
                404,
                "unknown-model",
                "Unknown model",
                f"model {wanted!r} is not in the catalog ({', '.join(known) or 'it is empty'})",
                known=known,
            )
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
    entries = {}
    for key, card in read_catalog(catalog).items():
        old = loaded.get(key)
        entries[key] = old if old is not None and old.card == card else Vocabulary(card)
    return entries
