"""An entry of the catalog as the page tells of it, whatever the form of its card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.entries import Entry
from models.report.scores import Gate, Score, Weak, gates_of, number, scores_of, set_of, text, weak_of
from models.report.targets import Target, targets_of


@dataclass(frozen=True)
class Facts:
    """An entry as the page tells of it. Megabytes are 10^6 bytes; p50 is milliseconds of one sentence on one thread;
    speed is FP32's p50 divided by its own."""

    name: str
    model: str
    tier: str
    variant: str | None
    size_mb: float | None
    rss_mb: float | None
    p50_ms: float | None
    fp32_p50_ms: float | None
    speed: float | None
    parameters: float | None
    licence: str | None
    data: str | None
    data_source: str | None
    data_licence: str | None
    machine: str | None
    seed: float | None
    minutes: float | None
    own: float | None
    variants: Mapping[str, Any]
    scores: tuple[Score, ...]
    gates: tuple[Gate, ...]
    weak: tuple[Weak, ...]
    targets: tuple[Target, ...]


def speed(card: Mapping[str, Any]) -> float | None:
    """FP32's p50 divided by the card's own, from `fp32_p50_ms`, or else from the variants at batch size 1."""
    fp32, own = number(card, "fp32_p50_ms"), number(card, "p50_ms")
    if fp32 is None:
        fp32, own = (
            number(card, "variants", name, "p50_ms", "1") for name in ("fp32", card.get("variant", ""))
        )
    return round(fp32 / own, 2) if fp32 and own else None


def facts(entry: Entry) -> Facts:
    """Everything that the page tells of an entry. Raises EntryError for targets that cannot be held against it."""
    card = entry.card
    data, variants = card.get("data"), card.get("variants")
    about = data if isinstance(data, dict) else {"name": data}
    only = set_of(about)
    scores, gates = tuple(scores_of(card, only)), tuple(gates_of(card))
    seconds, fp32 = number(card, "training", "seconds"), number(card, "fp32_p50_ms")
    return Facts(
        name=f"{entry.model}/{entry.tier}",
        model=entry.model,
        tier=entry.tier,
        variant=text(card.get("variant")),
        size_mb=_cost(number(card, "size_mb")),
        rss_mb=_cost(number(card, "rss_mb")),
        p50_ms=_cost(number(card, "p50_ms")),
        fp32_p50_ms=_cost(number(card, "variants", "fp32", "p50_ms", "1") if fp32 is None else fp32),
        speed=speed(card),
        parameters=number(card, "structure", "parameters") or number(card, "encoder", "parameters"),
        licence=text(card.get("licence")),
        data=text(about.get("name")),
        data_source=text(about.get("source")),
        data_licence=text(about.get("licence")),
        machine=text(card.get("machine")),
        seed=number(card, "training", "seed"),
        minutes=None if seconds is None else seconds / 60,
        own=number(card, "accuracy", "own_utterances"),
        variants=variants if isinstance(variants, dict) else {},
        scores=scores,
        gates=gates,
        weak=tuple(weak_of(card, only)),
        targets=tuple(targets_of(entry, scores, gates)),
    )


def _cost(value: float | None) -> float | None:
    """Nothing is free: a cost that is not above 0 was not measured."""
    return value if value is not None and value > 0 else None
