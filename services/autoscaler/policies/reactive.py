"""The replicas that the last seconds ask for, whatever is forecast: the ear for bursts."""

from __future__ import annotations

import math
from typing import NamedTuple

from services.autoscaler.decision import Reason
from services.autoscaler.observation import Observation

RECENT_S = 6
BURST_S = 2
_BEYOND_CHANCE = 2.0
"""Standard deviations: a two-second count is believed as far as Poisson noise doesn't explain it."""


class Need(NamedTuple):
    """Replicas that something asks for (a real number: 2.4 replicas), the load behind it, and why."""

    replicas: float
    rate_rps: float
    reason: Reason


def reactive_floor(observation: Observation, *, utilisation: float, drain_s: float) -> Need | None:
    """The highest of what the mean of 6 s, a burst within 2 s and the backlog ask for.

    utilisation: share of a replica's capacity that may be used by lasting load. drain_s: seconds in which a
    backlog should be gone; while it drains, replicas may run at 100 %. None when neither the rate nor the
    capacity is known.
    """
    recent, capacity = observation.rate(RECENT_S), observation.capacity_rps
    if recent is None or capacity is None:
        return None
    each = capacity * utilisation
    at = (each, utilisation * 100)
    text = "the last {} s brought {:.0f} req/s; a replica serves {:.0f} req/s at {:.0f} %"
    most = Need(recent / each, recent, Reason("recent-load", text, (RECENT_S, recent, *at)))
    burst = burst_rate(observation)
    if burst > recent:
        text = "the last {} s brought at least {:.0f} req/s beyond chance; a replica serves {:.0f} req/s at {:.0f} %"
        most = Need(burst / each, burst, Reason("burst", text, (BURST_S, burst, *at)))
    if observation.queue > 0:
        load = max(recent, burst) + observation.queue / drain_s
        if load / capacity > most.replicas:
            text = (
                "{:.0f} requests wait; {:.0f} req/s serve what comes and rid us of them in {:.0f} s; "
                "a replica serves {:.0f} at most"
            )
            values = (observation.queue, load, drain_s, capacity)
            most = Need(load / capacity, load, Reason("backlog", text, values))
    return most


def burst_rate(observation: Observation) -> float:
    """Requests per second of the last two seconds, less what chance may have added; 0 if unknown."""
    counts = observation.known(BURST_S)
    total = sum(counts)
    return max(0.0, total - _BEYOND_CHANCE * math.sqrt(total)) / len(counts) if counts else 0.0
