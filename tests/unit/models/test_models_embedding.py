"""Sentence vectors: the like is found, strays are left out of a summary, figures are held against chance."""

from __future__ import annotations

import numpy as np
import pytest

from models import embedding
from models.intents.utterances import Utterance

INTENTS = [f"intent{number}" for number in range(8)]
ITEMS = [Utterance(f"{intent} {number}", intent) for intent in INTENTS for number in range(6)]


def drawn(spread: float) -> embedding.Vectors:
    """A vector for each of ITEMS: a direction of its intent's, and noise."""
    random = np.random.default_rng(5)
    directions = dict(zip(INTENTS, random.normal(size=(len(INTENTS), 16)), strict=True))
    found = np.stack([directions[item.intent] + random.normal(size=16) * spread for item in ITEMS])
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def test_vectors_that_tell_intents_apart_do_better_than_chance_and_others_do_not() -> None:
    chance = embedding.ON_TOPIC / (embedding.ON_TOPIC + embedding.STRAYS)
    assert embedding.on_topic(drawn(0.1), ITEMS) > 0.98
    noise = np.random.default_rng(6).normal(size=(len(ITEMS), 16)).astype(np.float32)
    assert abs(embedding.on_topic(noise, ITEMS) - chance) < 0.08


def test_texts_need_strays() -> None:
    few = [item for item in ITEMS if item.intent in INTENTS[: embedding.STRAYS]]
    with pytest.raises(ValueError, match="too few for texts"):
        embedding.on_topic(drawn(0.1)[: len(few)], few)


def test_the_nearest_sentence_gives_its_intent() -> None:
    vectors = drawn(0.05)
    intents = [item.intent for item in ITEMS]
    assert embedding.nearest(vectors[::2], intents[::2], vectors[1::2], intents[1::2]) == 1.0
    assert embedding.nearest(vectors[::2], intents[::2], vectors[1::2], intents[::-1][1::2]) < 0.2
