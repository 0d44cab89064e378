"""The way down: to what was needed at most during a hold, and only as far as the survivors can carry the load."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

HOLD_S = 8.0
"""Seconds that `predictive` waits before it lets go, live as on paper (yardstick.py)."""

ZERO_HOLD_S = 30.0
"""The same for the last replica."""

_KEPT = 512  # ticks: more than may be within a hold, of a tenth of a second each

HELD = np.dtype(
    [
        ("began", "f8"),  # of the unbroken series of needs that is remembered
        ("count", "i8"),  # of them
        ("times", "f8", _KEPT),
        ("needs", "i8", _KEPT),
    ]
)
"""What was needed at the last ticks, in a ring."""

FELL, NEEDED_LATELY, SEEN_TOO_BRIEFLY, HOT = range(4)
"""Why it comes down as far as it does: nothing speaks against it, or the hold does, too short a memory, or the CPU of
those that are left."""


def forget(held: Any) -> None:
    """Begin the hold anew: what was needed in the meantime is not known."""
    held["count"] = 0


def remember(held: Any, now: float, need: int, longest_pause_s: float) -> None:
    """Note what is needed at this tick. longest_pause_s: between two needs of one unbroken series; after a longer pause
    the hold begins anew."""
    count = held["count"]
    if count and not 0.0 <= now - held["times"][(count - 1) % _KEPT] <= longest_pause_s:
        count = 0
    if count == 0:
        held["began"] = now
    held["times"][count % _KEPT] = now
    held["needs"][count % _KEPT] = need
    held["count"] = count + 1


def hold_s(wanted: int) -> float:
    """Seconds that are waited before any of so many is let go."""
    return ZERO_HOLD_S if wanted == 1 else HOLD_S


def step(
    held: Any, now: float, need: int, wanted: int, cpu: float, target: float
) -> tuple[int, int, int, int]:
    """The count to go on with while `need` is less than what is `wanted`; why; the highest need of the hold; and how
    many carry the CPU that is used.

    cpu: share of one replica's CPU that all of them use, NaN where it is not known. target: share of theirs that
    survivors may use.
    """
    start, highest = now - hold_s(wanted), need
    for back in range(1, min(held["count"], _KEPT) + 1):
        at = (held["count"] - back) % _KEPT
        if held["times"][at] < start:
            break
        highest = max(highest, int(held["needs"][at]))
    # None is a count that carries nothing.
    carrying = 0 if highest == 0 or math.isnan(cpu) else math.ceil(cpu / target - 1e-9)
    if highest >= wanted:
        return wanted, NEEDED_LATELY, highest, carrying
    if held["began"] > start:
        return wanted, SEEN_TOO_BRIEFLY, highest, carrying
    if carrying > highest:
        return min(carrying, wanted), HOT, highest, carrying
    return highest, FELL, highest, carrying


KERNELS = ("forget", "remember", "hold_s", "step")
"""What may be compiled, each after what it calls."""
