"""Which models there are, and which tier answers for each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

from services.common.catalog import Card, CatalogError, catalog_stamp, default_tier, read_catalog
from services.common.logs import logger
from services.common.problems import unknown_model

log = logger("foremesh.routing")


class Tiers:
    """The catalog's cards and the choice among them; raises `CatalogError` when made over a broken
    catalog.
    """

    def __init__(self, catalog: Path, preferred: str) -> None:
        self._catalog = catalog
        self._preferred = preferred
        self._stamp = catalog_stamp(catalog)
        self.cards: dict[str, Card] = {}
        self._chosen: dict[str, Card] = {}
        self._held: frozenset[str] = frozenset()
        self._ladders: dict[str, list[Card]] = {}
        self._take(read_catalog(catalog))

    @property
    def models(self) -> list[str]:
        """Names of the models, sorted."""
        return sorted(self._chosen)

    def named(self, name: str) -> tuple[Card, str | None]:
        """The usual card of the model that `name` means, and the tier that it asks for: `<model>` or `<model>.<tier>`.

        Raises the 404 `Problem` unknown-model.
        """
        card = self._chosen.get(name)
        if card is not None:
            return card, None
        model, _, tier = name.partition(".")
        card = self._chosen.get(model)
        if card is None or f"{model}.{tier}" not in self.cards:
            known = (
                self.models if card is None else [key for key in self.cards if key.startswith(f"{model}.")]
            )
            raise unknown_model(name, known)
        return card, tier

    def ladder(self, card: Card) -> list[Card]:
        """The tiers of the model of `card` that tell the same intents and that a replica holds; `card` among them."""
        return self._ladders.get(card.key, [card])

    def hold(self, keys: Iterable[str]) -> None:
        """Take note of what the replicas hold."""
        self._held = frozenset(keys)
        self._climb()

    async def watch(self, every_s: float) -> None:
        """Look at the catalog every `every_s` seconds, for ever; a broken one leaves the cards as they
        were.
        """
        while True:
            await asyncio.sleep(every_s)
            stamp = catalog_stamp(self._catalog)
            if stamp == self._stamp:
                continue
            self._stamp = stamp
            try:
                self._take(read_catalog(self._catalog))
            except CatalogError as error:
                log.error("catalog changed but cannot be used", extra={"why": str(error)})
            else:
                log.info("catalog read again", extra={"models": sorted(self.cards)})

    def _take(self, cards: dict[str, Card]) -> None:
        chosen = {card.model: default_tier(cards, card.model, self._preferred) for card in cards.values()}
        self.cards = cards
        self._chosen = {model: card for model, card in chosen.items() if card is not None}
        self._climb()

    def _climb(self) -> None:
        self._ladders = {
            usual.key: [
                card
                for card in self.cards.values()
                if card.key == usual.key
                or (card.model == usual.model and card.key in self._held and card.labels == usual.labels)
            ]
            for usual in self._chosen.values()
        }
