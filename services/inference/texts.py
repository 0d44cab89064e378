"""Texts to answers in one process: tokenizer, queue and model of an entry, for the protocols that carry texts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from services.common import problems
from services.common.catalog import Card, default_tier
from services.common.problems import Problem
from services.common.slots import continues, slots_of
from services.common.vocabulary import Vocabulary
from services.contracts.messages import InferOutcome, Slot
from services.inference.batching import Batcher
from services.inference.model import Model, Query
from services.inference.repository import Held, Repository

C = TypeVar("C")

INLINE_CHARACTERS = 20_000
"""Longer lots of text are cut in a thread, so that they hold nobody else up."""


class Asked(NamedTuple):
    """What came of texts: the card of the model that answered, an outcome of each, milliseconds; the slots of each,
    where they were wanted and the model marks some."""

    card: Card
    outcomes: list[InferOutcome]
    total_ms: float
    slots: list[list[Slot]] | None = None


class TextHeld(Held):
    """A model in memory with its tokenizer."""

    __slots__ = ("vocabulary",)

    def __init__(self, model: Model, batcher: Batcher, vocabulary: Vocabulary) -> None:
        super().__init__(model, batcher)
        self.vocabulary = vocabulary


class Texts:
    """Asks the models of a repository whose `Make` gives `TextHeld`. preferred: tier that answers where a model is
    named without one; deadline_s: time that an answer may take."""

    def __init__(self, repository: Repository, *, preferred: str, deadline_s: float, max_items: int) -> None:
        self.repository = repository
        self.max_items = max_items
        self._preferred = preferred
        self._deadline_s = deadline_s
        # Names are few and asked all the time; the catalog seldom changes.
        self._keys: dict[str, str] = {}
        self._reading = -1

    def key(self, name: str) -> str:
        """The key of what is named `<model>` (its preferred tier), `<model>.<tier>` or `<model>/<tier>`. Raises the 404
        `Problem` unknown-model."""
        if self._reading != self.repository.readings:
            self._reading = self.repository.readings
            self._keys.clear()
        if known_key := self._keys.get(name):
            return known_key
        cards = self.repository.cards
        key = name.replace("/", ".")
        if key not in cards:
            card = default_tier(dict(cards), name, self._preferred)
            if card is None:
                raise problems.unknown_model(name, {card.model for card in cards.values()} | set(cards))
            key = card.key
        if len(self._keys) < 1024:
            self._keys[name] = key
        return key

    async def ask(
        self,
        name: str,
        texts: Sequence[str],
        *,
        top_k: int = 3,
        outputs: tuple[str, ...] = (),
        slots: bool = False,
    ) -> Asked:
        """Answer texts by the model named `name`, one outcome each.

        outputs: of the model, whose rows come in `Ran.tensors`; slots: wanted, of a model that marks some. Raises the
        404 `Problem` unknown-model, the 400 of an output that the model has not, and what loading a model raises.
        """
        began = time.perf_counter()
        held = await self.take(name, outputs)
        try:
            if held.batcher.full:
                # Under more load than there is capacity for, what is refused must cost less than what is answered.
                return Asked(held.card, held.batcher.shed(len(texts)), 0.0)
            offsets = None
            if slots and held.model.tags:
                ids, _, offsets = await _cut(held.vocabulary.encode_with_offsets, texts)
                queries = [
                    Query(row, top_k, outputs, continues(of, text))
                    for row, of, text in zip(ids, offsets, texts, strict=True)
                ]
            else:
                ids, _ = await _cut(held.vocabulary.encode, texts)
                queries = [Query(row, top_k, outputs) for row in ids]
            # What the model's own tokenizer has cut needs no second look.
            outcomes = await held.batcher.submit(queries, [self._deadline_s] * len(queries))
        finally:
            self.repository.leave(held)
        found = None
        if offsets is not None:
            found = [
                slots_of(outcome.marks or [], of, text)
                for outcome, of, text in zip(outcomes, offsets, texts, strict=True)
            ]
        spent_ms = (time.perf_counter() - began) * 1e3
        return Asked(held.card, outcomes, spent_ms, found)

    async def take(self, name: str, outputs: Sequence[str] = ()) -> TextHeld:
        """The model, for a call that ends with `repository.leave`. Raises as `ask` does."""
        held = await self.repository.take(self.key(name))
        assert isinstance(held, TextHeld)  # noqa: S101  # the repository's Make
        missing = [output for output in outputs if output not in held.model.outputs]
        if missing:
            self.repository.leave(held)
            raise Problem(
                400, "no-such-output", "No such output",
                f"{held.card.key} has no output {missing[0]!r}; it has {', '.join(held.model.outputs)}",
                known=list(held.model.outputs),
            )  # fmt: skip
        return held

    async def encode(self, held: TextHeld, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text."""
        return (await _cut(held.vocabulary.encode, texts))[0]

    async def run(
        self, held: Held, queries: Sequence[Query], deadline_s: float | None = None
    ) -> list[InferOutcome]:
        """An outcome for each query, in order. deadline_s: time that the caller leaves, where that is less."""
        left = self._deadline_s if deadline_s is None else min(self._deadline_s, deadline_s)
        return await held.answer(queries, [left] * len(queries))


async def _cut(encode: Callable[[list[str]], C], texts: Sequence[str]) -> C:
    given = list(texts)
    if sum(map(len, given)) <= INLINE_CHARACTERS:
        return encode(given)
    return await asyncio.to_thread(encode, given)
