"""A series without its unit: log1p of counts over the series' own level, gaps filled forward."""

from dataclasses import dataclass

import numpy as np

from services.predictor.forecast import ColdStart, Floats

LEVEL_STEPS = 60
"""The level is the mean of so many known steps."""


@dataclass(frozen=True)
class Relative:
    """log: log1p(count / level) per step, oldest first, no gaps; known: how many were known; top: largest count."""

    log: Floats
    level: float
    known: int
    top: float

    def counts(self, log: Floats) -> Floats:
        """Back to counts, never negative, at most ten times the largest one seen."""
        return np.clip(self.level * np.expm1(np.minimum(log, 300.0)), 0.0, 10.0 * self.top)


def relative(history: Floats, steps: int, least: int) -> Relative:
    """The last `steps` of a history of counts; ColdStart when fewer than `least` of them are known."""
    counts = history[-steps:]
    known = np.isfinite(counts)
    there = int(known.sum())
    if there < max(least, 1):
        raise ColdStart(f"needs {least} known steps of the last {steps}, has {there}")
    if there < len(counts):
        at = np.maximum.accumulate(np.where(known, np.arange(len(counts)), -1))
        counts = counts[np.where(at < 0, int(np.argmax(known)), at)]
    counts = np.maximum(counts, 0.0)
    level = float(counts[-LEVEL_STEPS:].mean()) or float(counts.mean()) or 1.0
    return Relative(np.log1p(counts / level), level, there, float(counts.max()))
