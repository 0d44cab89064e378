"""What a card says of each set: scores, gates against sentences from outside, the weakest intents.

Cards differ: one set (`accuracy`), several (`heads`), or intents and entities at once (task `command`, with
`accuracy.entity_f1`). What a card does not say is None.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

ACCURACY, ENTITY_F1 = "accuracy", "entity F1"


@dataclass(frozen=True)
class Seeds:
    """A score over several trainings, 0..1."""

    mean: float
    low: float
    high: float
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Score:
    """One set's score, 0..1: of the test part, the validation part, and of the FP32 model on the test part.

    kind: `accuracy` or `entity F1`. sentences: of each part of the data.
    """

    set: str
    kind: str
    test: float | None
    valid: float | None
    fp32: float | None
    seeds: Seeds | None
    sentences: Mapping[str, int]

    @property
    def name(self) -> str:
        """The set, and the kind where it is not accuracy."""
        return self.set if self.kind == ACCURACY else f"{self.set}, {self.kind}"

    @property
    def reached(self) -> float | None:
        """What a target is held against: the mean over the seeds where there is one, else the test."""
        return self.seeds.mean if self.seeds else self.test


@dataclass(frozen=True)
class Gate:
    """Sentences outside of all intents: share recognised, and accuracy in scope with the gate; 0..1."""

    set: str
    score: str
    recall: float
    accuracy_in_scope: float | None
    loss: float | None


@dataclass(frozen=True)
class Weak:
    """An intent that is recognised badly: recall 0..1, its sentences in the test, and what it is taken for."""

    set: str
    intent: str
    recall: float
    sentences: int | None
    taken_for: str | None


def number(card: Mapping[str, Any], *names: str) -> float | None:
    """The number that lies under these names, one in the other; None when anything on the way is missing."""
    value: Any = card
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    real = isinstance(value, int | float) and not isinstance(value, bool)
    return value if real and math.isfinite(value) else None


def text(value: object) -> str | None:
    """A card's words; None where there are none."""
    return value if isinstance(value, str) and value else None


def set_of(data: Mapping[str, Any]) -> str:
    """The set of a card that has one: the name of its data up to the first comma, in small letters, as `heads` call
    it."""
    return (text(data.get("name")) or "its own data").partition(",")[0].strip().lower()


def scores_of(card: Mapping[str, Any], only: str) -> Iterator[Score]:
    """The scores of every set; `only` is the set of a card without heads."""
    heads = _heads(card)
    for name, head in heads.items():
        yield _score(card, name, ACCURACY, head, head.get("sentences"))
    accuracy = card.get("accuracy")
    if not isinstance(accuracy, dict):
        return
    if not heads:
        yield _score(card, only, ACCURACY, accuracy, card.get("data"))
    if number(accuracy, "entity_f1") is not None:
        of = {
            "test": accuracy["entity_f1"],
            "valid": accuracy.get("entity_f1_valid"),
            "test_fp32": accuracy.get("entity_f1_fp32"),
        }
        yield _score(card, only, ENTITY_F1, of, card.get("data"))


def gates_of(card: Mapping[str, Any]) -> Iterator[Gate]:
    """What each score for sentences from outside reached."""
    for name, head in _heads(card).items():
        gates, test = head.get("out_of_scope"), number(head, "test")
        for score in gates if isinstance(gates, dict) else ():
            recall, inside = (
                number(head, "out_of_scope", score, what) for what in ("recall", "accuracy_in_scope")
            )
            if recall is not None:
                loss = None if inside is None or test is None else test - inside
                yield Gate(name, score, recall, inside, loss)


def weak_of(card: Mapping[str, Any], only: str) -> Iterator[Weak]:
    """The weakest intents of every set; `only` is the set of a card without heads."""
    for name, holder in (_heads(card) or {only: card}).items():
        rows = holder.get("worst_intents")
        for row in rows if isinstance(rows, list) else ():
            if not isinstance(row, dict):
                continue
            intent, recall, count = text(row.get("intent")), number(row, "recall"), number(row, "sentences")
            if intent and recall is not None:
                yield Weak(
                    name, intent, recall, None if count is None else int(count), text(row.get("taken_for"))
                )


def _heads(card: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    heads = card.get("heads")
    return {k: v for k, v in heads.items() if isinstance(v, dict)} if isinstance(heads, dict) else {}


def _score(card: Mapping[str, Any], name: str, kind: str, of: Mapping[str, Any], data: object) -> Score:
    counts = data if isinstance(data, dict) else {}
    parts = {part: int(count) for part in ("train", "valid", "test") if (count := number(counts, part))}
    seeds = _seeds(card, name if kind == ACCURACY else "entity_f1")
    return Score(name, kind, number(of, "test"), number(of, "valid"), number(of, "test_fp32"), seeds, parts)


def _seeds(card: Mapping[str, Any], key: str) -> Seeds | None:
    mean, low, high = (number(card, "seeds", key, what) for what in ("mean", "min", "max"))
    if mean is None or low is None or high is None:
        return None
    seeds = card["seeds"][key].get("seeds")
    known = seeds if isinstance(seeds, list) else []
    return Seeds(mean, low, high, tuple(seed for seed in known if isinstance(seed, int)))
