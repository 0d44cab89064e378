"""The errors that were made in saying what the load will be, and their quantiles."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

MEMORY = 1800
"""Errors that are remembered."""

PRIOR = 60.0
"""Errors that the first guess of a quantile is worth: by then it counts half."""


class Errors:
    """The last errors of one horizon, in units in which they don't depend on how large the load is."""

    def __init__(self) -> None:
        self._in_order: deque[float] = deque()
        self._sorted: list[float] = []

    def add(self, error: float) -> None:
        """Remember one more, and forget the oldest beyond MEMORY."""
        self._in_order.append(error)
        insort(self._sorted, error)
        if len(self._in_order) > MEMORY:
            del self._sorted[bisect_left(self._sorted, self._in_order.popleft())]

    def quantile(self, quantile: float, prior: float) -> float:
        """The empirical quantile; `prior`, a first guess of it, counts for the more the fewer errors are known."""
        known = len(self._sorted)
        if not known:
            return prior
        at = quantile * (known - 1)
        low = int(at)
        high = min(low + 1, known - 1)
        found = self._sorted[low] + (at - low) * (self._sorted[high] - self._sorted[low])
        trust = known / (known + PRIOR)
        return trust * found + (1.0 - trust) * prior
