"""What a figure must reach, told beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Bar:
    """What a figure must reach: at least ``limit``, or at most."""

    figure: str
    what: str
    limit: float
    least: bool

    def met(self, value: float) -> bool:
        """Whether the value does."""
        return value >= self.limit if self.least else value <= self.limit


def judged(bars: Sequence[Bar], figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The bars with the figures that were measured: `{figure, what, value, at_least | at_most, met}`."""
    return [
        {
            "figure": bar.figure,
            "what": bar.what,
            "value": figures[bar.figure],
            "at_least" if bar.least else "at_most": bar.limit,
            "met": bar.met(figures[bar.figure]),
        }
        for bar in bars
        if figures.get(bar.figure) is not None
    ]
