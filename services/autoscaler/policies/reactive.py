"""The replicas that the last seconds ask for, whatever is forecast: the ear for bursts."""

from __future__ import annotations

import math
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
    recent_s, burst_s = _within(lead_s / 2, _RECENT_S), _within(lead_s / 6, _BURST_S)
    recent, capacity = observation.rate(recent_s), observation.capacity_rps
    if recent is None or capacity is None:
        return None
    each = capacity * utilisation
    at = (each, utilisation * 100)
    text = "the last {} s brought {:.0f} req/s; a replica serves {:.0f} req/s at {:.0f} %"
    most = Need(recent / each, recent, Reason("recent-load", text, (recent_s, recent, *at)))
    burst = burst_rate(observation, burst_s)
    if burst > recent:
        text = "the last {} s brought at least {:.0f} req/s beyond chance; a replica serves {:.0f} req/s at {:.0f} %"
        most = Need(burst / each, burst, Reason("burst", text, (burst_s, burst, *at)))
    if observation.queue > 0:
        drain_s = max(_DRAIN_S, lead_s)
        load = max(recent, burst) + observation.queue / drain_s
        if load / capacity > most.replicas:
            text = (
                "{:.0f} requests wait; {:.0f} req/s serve what comes and rid us of them in {:.0f} s; "
                "a replica serves {:.0f} at most"
            )
            values = (observation.queue, load, drain_s, capacity)
            most = Need(load / capacity, load, Reason("backlog", text, values))
    return most


def burst_rate(observation: Observation, seconds: int) -> float:
    """Requests per second of the last so many seconds, less what chance may have added; 0 if unknown."""
    counts = observation.known(seconds)
    total = sum(counts)
    return max(0.0, total - _BEYOND_CHANCE * math.sqrt(total)) / len(counts) if counts else 0.0


def _within(seconds: float, bounds: tuple[int, int]) -> int:
    return round(min(max(seconds, bounds[0]), bounds[1]))
