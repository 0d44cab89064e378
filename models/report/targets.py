"""What a card promised, held against what it measured.

A card may state its `targets`: `{"accuracy": {SET: 0..1}, "entity_f1": 0..1, "out_of_scope_recall": 0..1,
"loss_to_fp32": 0..1, "size_mb": .., "rss_mb": .., "p50_ms": ..}`, each of them optional. Scores must be reached, the
rest must not be exceeded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.entries import Entry, EntryError
from models.report.scores import ACCURACY, Gate, Score, number

AT_MOST = ("size_mb", "rss_mb", "p50_ms")
COSTS = ("loss_to_fp32", *AT_MOST)
KNOWN = ("accuracy", "entity_f1", "out_of_scope_recall", *COSTS)


@dataclass(frozen=True)
class Target:
    """What a card promised, and what was reached; `reached` is None where the card does not say.

    bound: `>=` or `<=`. share: the figures are 0..1, and shown in per cent.
    """

    what: str
    bound: str
    target: float
    reached: float | None
    share: bool

    @property
    def met(self) -> bool:
        if self.reached is None:
            return False
        short = self.target - self.reached if self.bound == ">=" else self.reached - self.target
        # A figure is as exact as a card writes it.
        return short < 1e-9


def targets_of(entry: Entry, scores: Sequence[Score], gates: Sequence[Gate]) -> list[Target]:
    """The targets of an entry's card. Raises EntryError naming the card where one of them cannot be held against it."""
    stated, path = entry.card.get("targets", {}), entry.folder / "card.json"
    if not isinstance(stated, dict):
        raise EntryError(f"{path}: targets must be an object of {', '.join(KNOWN)}, not {stated!r}")
    for name in stated:
        if name not in KNOWN:
            raise EntryError(f"{path}: the target {name!r} is none of {', '.join(KNOWN)}")
    sets = stated.get("accuracy", {})
    if not isinstance(sets, dict):
        raise EntryError(f"{path}: targets.accuracy must name sets, each with a share, not {sets!r}")
    losses = [
        score.fp32 - score.test for score in scores if score.fp32 is not None and score.test is not None
    ]
    reached = {
        "entity_f1": next((score.reached for score in scores if score.kind != ACCURACY), None),
        "out_of_scope_recall": max((gate.recall for gate in gates), default=None),
        "loss_to_fp32": max(losses, default=None),
    } | {name: number(entry.card, name) for name in AT_MOST}
    by_set = {score.set: score.reached for score in scores if score.kind == ACCURACY}
    return [Target(name, ">=", _stated(path, sets, name), by_set.get(name), True) for name in sets] + [
        Target(name, "<=" if name in COSTS else ">=", _stated(path, stated, name), value, name not in AT_MOST)
        for name, value in reached.items()
        if name in stated
    ]


def _stated(path: Path, holder: Mapping[str, Any], name: str) -> float:
    value = number(holder, name)
    if value is None:
        raise EntryError(f"{path}: the target {name!r} must be a number, not {holder[name]!r}")
    if name in AT_MOST and value <= 0:
        raise EntryError(f"{path}: the target {name!r} must be above 0, not {value:g}")
    if name not in AT_MOST and not 0 <= value <= 1:
        raise EntryError(f"{path}: the target {name!r} must lie between 0 and 1, not {value:g}")
    return value
