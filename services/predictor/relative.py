"""Series without their unit: log1p of counts over a series' own level, gaps filled forward."""

from dataclasses import dataclass

import numpy as np

from services.predictor.forecast import ColdStart, Floats

LEVEL_STEPS = 60
"""The level is the mean of so many known steps."""


@dataclass(frozen=True)
class Relative:
    """Series side by side. whole: counts [series, step], oldest first, no gaps; level, top: [series, 1], what they
    are relative to and the largest count."""

    whole: Floats
    level: Floats
    top: Floats

    def log(self, steps: int | None = None) -> Floats:
        """log1p(count / level) of the last `steps`, or of all: [series, step]."""
        return np.asarray(np.log1p((self.whole if steps is None else self.whole[:, -steps:]) / self.level))

    def counts(self, log: Floats) -> Floats:
        """Back to counts [series, ...], never negative, at most ten times the largest one seen."""
        counts = self.level * np.expm1(np.minimum(log, 300.0))
        return np.asarray(np.minimum(np.maximum(counts, 0.0), 10.0 * self.top))


def relative(histories: Floats, steps: int, least: int) -> Relative:
    """The last `steps` of histories of counts [series, step]; ColdStart when fewer than `least` of them are known.

    NaN where nothing is known, of a single series only.
    """
    counts = histories[:, -steps:]
    known = np.isfinite(counts[0])
    there = int(known.sum())
    if there < max(least, 1):
        raise ColdStart(f"needs {least} known steps of the last {steps}, has {there}")
    if there < len(known):
        at = np.maximum.accumulate(np.where(known, np.arange(len(known)), -1))
        counts = counts[:, np.where(at < 0, int(np.argmax(known)), at)]
    counts = np.maximum(counts, 0.0)
    level = counts[:, -LEVEL_STEPS:].mean(axis=1, keepdims=True)
    if not level.all():
        level = np.where(level > 0.0, level, counts.mean(axis=1, keepdims=True))
        level = np.where(level > 0.0, level, 1.0)
    return Relative(counts, level, counts.max(axis=1, keepdims=True))
