"""The errors that were made in saying what the load will be, and their quantiles.

Over arrays, so that the lab can compile what runs as plain Python live (lab/compiled.py).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MEMORY = 3600
"""Errors that are remembered."""

PRIOR = 60.0
"""Errors that the first guess of a quantile is worth: by then it counts half."""


def remember(ordered: Floats, in_turn: Floats, count: int, error: float) -> None:
    """Take in one more, in place of the oldest once there is no room.

    in_turn: float64[m], a ring of the last m errors. ordered: float64[m + 1], the same ascending. count: errors that
    came before this one, forgotten ones included.
    """
    most = len(in_turn)
    known = min(count, most)
    place = count % most
    if known == most:
        gone = np.searchsorted(ordered[:known], in_turn[place])
        ordered[gone : known - 1] = ordered[gone + 1 : known].copy()
        known -= 1
    at = np.searchsorted(ordered[:known], error)
    ordered[at + 1 : known + 1] = ordered[at:known].copy()
    ordered[at] = error
    in_turn[place] = error


def quantile(ordered: Floats, count: int, share: float, prior: float) -> float:
    """The empirical quantile of `count` errors; `prior`, a first guess of it, counts the more the fewer they are."""
    known = min(count, len(ordered) - 1)
    if known == 0:
        return prior
    at = share * (known - 1)
    low = int(at)
    high = min(low + 1, known - 1)
    found = ordered[low] + (at - low) * (ordered[high] - ordered[low])
    trust = known / (known + PRIOR)
    return float(trust * found + (1.0 - trust) * prior)
