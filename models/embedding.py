"""What an entry's sentence vectors are good for: finding the like, and summarising by extraction.

Summaries are of the sentences at the centre of a text, by the code that serves them. Vectors have length 1, as the
output `embedding` gives them.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.intents.utterances import Utterance
from services.common.central import central

EMBEDDING = "embedding"

Vectors = NDArray[np.float32]
"""[sentences, features], each of length 1."""

TEXTS, ON_TOPIC, STRAYS, CHOSEN = 400, 4, 3, 2
"""Texts that summaries are judged on, sentences of each on its topic and off it, and how many a summary takes."""


def vectors(session: ort.InferenceSession, rows: Sequence[Sequence[int]]) -> Vectors:
    """The vectors of `rows` of token ids, each sentence alone. Raises ValueError for no rows."""
    if not rows:
        raise ValueError("no sentence to embed; give one at least")
    found = [
        session.run(
            [EMBEDDING], {"ids": np.array([row or [1]], np.int64), "lengths": np.array([max(1, len(row))])}
        )[0][0]
        for row in rows
    ]
    return np.stack(found).astype(np.float32)


def nearest(known: Vectors, intents: Sequence[str], asked: Vectors, wanted: Sequence[str]) -> float:
    """Share (0..1) of `asked` whose most similar of `known` is of the wanted intent."""
    best = (asked @ known.T).argmax(axis=1)
    return float(np.mean([intents[at] == intent for at, intent in zip(best, wanted, strict=True)]))


def on_topic(sentences: Vectors, items: Sequence[Utterance], seed: int = 0) -> float:
    """Share (0..1) of the sentences of summaries that are on their text's topic.

    Nobody wrote summaries of the public sets, so texts are made of them: ON_TOPIC sentences of one intent and STRAYS of
    as many others, in random order, of which CHOSEN are taken. Taking the first ones, or any, would give
    ON_TOPIC / (ON_TOPIC + STRAYS). Raises ValueError where the items are too few for a text.
    """
    by_intent: dict[str, list[int]] = {}
    for at, item in enumerate(items):
        by_intent.setdefault(item.intent, []).append(at)
    topics = [intent for intent, places in sorted(by_intent.items()) if len(places) >= ON_TOPIC]
    if not topics or len(by_intent) <= STRAYS:
        raise ValueError(
            f"{len(by_intent)} intents, {len(topics)} of them with {ON_TOPIC} sentences, are too few for texts with "
            f"{STRAYS} strays"
        )
    random, right = Random(seed), 0
    for _ in range(TEXTS):
        topic = random.choice(topics)
        others = random.sample([intent for intent in sorted(by_intent) if intent != topic], STRAYS)
        text = random.sample(by_intent[topic], ON_TOPIC) + [
            random.choice(by_intent[intent]) for intent in others
        ]
        random.shuffle(text)
        right += sum(items[text[at]].intent == topic for at in central(sentences[text], CHOSEN))
    return right / (TEXTS * CHOSEN)


def measure(
    session: ort.InferenceSession,
    train: Sequence[Utterance],
    train_rows: Sequence[Sequence[int]],
    test: Sequence[Utterance],
    test_rows: Sequence[Sequence[int]],
) -> dict[str, Any]:
    """What a card says of the vectors on one set, shares 0..1: `nearest_neighbour`, test sentences whose most similar
    training sentence has their intent; `summary_on_topic`, see `on_topic`, None where the set is too small for it."""
    asked = vectors(session, test_rows)
    known = vectors(session, train_rows)
    try:
        topic: float | None = round(on_topic(asked, test), 4)
    except ValueError:
        topic = None
    share = nearest(known, [item.intent for item in train], asked, [item.intent for item in test])
    return {"nearest_neighbour": round(share, 4), "summary_on_topic": topic}
