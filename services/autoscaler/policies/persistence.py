"""The last minute goes on, with headroom: the yardstick for whatever claims to foresee."""

from __future__ import annotations

from services.autoscaler.decision import Decision, Reason
from services.autoscaler.observation import GAP_S, Observation
from services.autoscaler.policies.answer import answered

WINDOW_S = 60
UTILISATION = 0.85
"""Share of a replica's capacity that is used without headroom, as `predictive` uses it."""


class Persistence:
    """Wants replicas for the mean of the last minute. No state, no cadence, no hold."""

    name = "persistence"

    def __init__(self, *, headroom: float = 0.2, queue_bound: int = 512) -> None:
        """headroom: share that is added to the rate; raises ValueError for a negative one."""
        if not headroom >= 0:
            raise ValueError(f"headroom {headroom} is below zero")
        self._headroom = headroom
        self._queue_bound = queue_bound

    def decide(self, observation: Observation) -> Decision:
        """Follow the last minute; hold while its counts or the capacity are not known."""
        current, rate, capacity = observation.wanted, observation.rate(WINDOW_S), observation.capacity_rps
        if observation.outage or rate is None or capacity is None:
            text = "no count within {} s or no capacity known, holding {}"
            reason = Reason("no-metrics", text, (GAP_S, current))
            return answered(self.name, observation, current, None, reason, queue_bound=self._queue_bound)
        demand, each = rate * (1 + self._headroom), capacity * UTILISATION
        text = "{:.1f} req/s over {} s and {:.0f} % headroom; a replica serves {:.2f}"
        reason = Reason("recent-load", text, (rate, WINDOW_S, self._headroom * 100, each))
        return answered(self.name, observation, demand / each, rate, reason, queue_bound=self._queue_bound)
