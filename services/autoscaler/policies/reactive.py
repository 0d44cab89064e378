"""The replicas that the last seconds ask for, whatever is forecast: the ear for bursts."""

from __future__ import annotations

import math
from functools import lru_cache

from services.autoscaler.observation import Observation

_RECENT_S = (6, 15)
_BURST_S = (2, 6)

_DRAIN_S = 5.0
"""Seconds in which a backlog should be gone, at least."""

_BEYOND_CHANCE = 2.0
"""Standard deviations: a burst is believed as far as Poisson noise doesn't explain it."""

RECENT, BURST, BACKLOG = range(3)
"""What it is that asks for most."""


@lru_cache(maxsize=64)
def windows(lead_s: float) -> tuple[int, int]:
    """Seconds of the mean and of a burst that are worth an order: 6 to 15, 2 to 6.

    lead_s: seconds until a replica ordered now serves. The longer, the longer must last what is worth an order.
    """
    return _within(lead_s / 2, _RECENT_S), _within(lead_s / 6, _BURST_S)


def _within(seconds: float, bounds: tuple[int, int]) -> int:
    return round(min(max(seconds, bounds[0]), bounds[1]))


def burst_rate(observation: Observation, seconds: int) -> float:
    """Requests per second of the last so many seconds, less what chance may have added; 0 if unknown."""
    counts = observation.known(seconds)
    total = sum(counts)
    # Four and fewer are no burst whatever they come out of.
    return (total - _BEYOND_CHANCE * math.sqrt(total)) / len(counts) if total > _BEYOND_CHANCE**2 else 0.0


def floor(
    recent_rps: float, burst_rps: float, queue: float, capacity_rps: float, utilisation: float, lead_s: float
) -> tuple[float, float, int]:
    """Replicas that the highest of the last seconds, a burst within them and the backlog asks for, the load behind it
    in requests per second, and which of them it is.

    burst_rps: beyond chance. queue: requests that wait. utilisation: share of a replica's capacity that may be used by
    lasting load. lead_s: seconds until a replica ordered now serves. A backlog is to be gone by then; while it drains,
    replicas may run at 100 %.
    """
    what, rate = (BURST, burst_rps) if burst_rps > recent_rps else (RECENT, recent_rps)
    replicas = rate / (capacity_rps * utilisation)
    if queue > 0:
        load = rate + queue / drain_s(lead_s)
        if load / capacity_rps > replicas:
            return load / capacity_rps, load, BACKLOG
    return replicas, rate, what


def drain_s(lead_s: float) -> float:
    """Seconds in which a backlog is to be gone."""
    return max(_DRAIN_S, lead_s)


KERNELS = ("drain_s", "floor")
"""What may be compiled, each after what it calls."""
