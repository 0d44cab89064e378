"""A fixed number of replicas: the baseline, and the switch to scale by hand."""

from __future__ import annotations

from services.autoscaler.decision import RATE_WINDOW_S, Decision, Reason
from services.autoscaler.observation import Observation
from services.autoscaler.policies.answer import answered


class Static:
    """Wants `replicas`, within the bounds of the observation."""

    def __init__(self, replicas: int, *, queue_bound: int = 512) -> None:
        """Raises ValueError for a negative count."""
        if replicas < 0:
            raise ValueError(f"static:{replicas} asks for fewer than no replicas")
        self.replicas = replicas
        self._queue_bound = queue_bound

    @property
    def name(self) -> str:
        """`static:N`, as it is written in a setting."""
        return f"static:{self.replicas}"

    def decide(self, observation: Observation) -> Decision:
        """Return the same count, whatever was observed."""
        wanted = observation.bounded(self.replicas)
        reason = Reason("fixed", "fixed at {} by setting", (self.replicas,))
        if wanted != self.replicas:
            bounds = (self.replicas, observation.min_replicas, observation.max_replicas, wanted)
            reason = Reason("fixed", "fixed at {} by setting, bounds {}..{} make it {}", bounds)
        demand = observation.rate(RATE_WINDOW_S)
        return answered(self.name, observation, wanted, demand, reason, queue_bound=self._queue_bound)
