"""The replicas that the last seconds ask for, whatever is forecast: the ear for bursts."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

from services.autoscaler.decision import Reason
from services.autoscaler.observation import Observation

_RECENT_S = (6, 15)
_BURST_S = (2, 6)
_DRAIN_S = 5.0
"""Seconds in which a backlog should be gone, at least."""

_BEYOND_CHANCE = 2.0
"""Standard deviations: a burst is believed as far as Poisson noise doesn't explain it."""


class Need(NamedTuple):
    """Replicas that something asks for (a real number: 2.4 replicas), the load behind it, and why."""

    replicas: float
    rate_rps: float
    reason: Reason


def reactive_floor(observation: Observation, *, utilisation: float, lead_s: float) -> Need | None:
    """The highest of what the last seconds, a burst within them and the backlog ask for.

    utilisation: share of a replica's capacity that may be used by lasting load. lead_s: seconds until a replica
    ordered now serves. The longer, the longer must last what is worth an order, so the windows grow with it: 6 to 15 s
    for the mean, 2 to 6 s for a burst. A backlog is to be gone by then; while it drains, replicas may run at 100 %.
    None when neither the rate nor the capacity is known.
    """
    capacity = observation.capacity_rps
    heard = last_seconds(observation, lead_s)
    if heard is None or capacity is None:
        return None
    each = capacity * utilisation
    values: tuple[float, ...] = (heard.seconds, heard.rate_rps, each, utilisation * 100)
    text = "; a replica serves {:.0f} req/s at {:.0f} %"
    if heard.burst:
        reason = Reason("burst", "the last {} s brought at least {:.0f} req/s beyond chance" + text, values)
    else:
        reason = Reason("recent-load", "the last {} s brought {:.0f} req/s" + text, values)
    most = Need(heard.rate_rps / each, heard.rate_rps, reason)
    if observation.queue > 0:
        drain_s = max(_DRAIN_S, lead_s)
        load = heard.rate_rps + observation.queue / drain_s
        if load / capacity > most.replicas:
            text = (
                "{:.0f} requests wait; {:.0f} req/s serve what comes and rid us of them in {:.0f} s; "
                "a replica serves {:.0f} at most"
            )
            values = (observation.queue, load, drain_s, capacity)
            most = Need(load / capacity, load, Reason("backlog", text, values))
    return most


class Heard(NamedTuple):
    """The rate of the last so many seconds, requests per second; burst: of a burst within them, less what is chance."""

    seconds: int
    rate_rps: float
    burst: bool


def last_seconds(observation: Observation, lead_s: float) -> Heard | None:
    """The higher of the mean of the last seconds and of a burst within them; None where nothing is known."""
    recent_s, burst_s = windows(lead_s)
    recent = observation.rate(recent_s)
    if recent is None:
        return None
    burst = burst_rate(observation, burst_s)
    return Heard(burst_s, burst, burst=True) if burst > recent else Heard(recent_s, recent, burst=False)


def burst_rate(observation: Observation, seconds: int) -> float:
    """Requests per second of the last so many seconds, less what chance may have added; 0 if unknown."""
    counts = observation.known(seconds)
    total = sum(counts)
    return max(0.0, total - _BEYOND_CHANCE * math.sqrt(total)) / len(counts) if counts else 0.0


@lru_cache(maxsize=64)
def windows(lead_s: float) -> tuple[int, int]:
    """Seconds of the mean and of a burst that are worth an order, see reactive_floor."""
    return _within(lead_s / 2, _RECENT_S), _within(lead_s / 6, _BURST_S)


def _within(seconds: float, bounds: tuple[int, int]) -> int:
    return round(min(max(seconds, bounds[0]), bounds[1]))
