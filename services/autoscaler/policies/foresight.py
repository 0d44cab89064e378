"""Replicas for what is told of the future and nothing else: the limits that other policies are held against.

In the lab `oracle` is told the load that will be needed, and `informed` its intensity without the noise of single
bins. Both still pay the start delay. Live, where nobody knows the future, they follow the forecast blindly.
"""

from __future__ import annotations

from services.autoscaler.decision import Decision, Reason
from services.autoscaler.observation import Observation
from services.autoscaler.policies.answer import answered

LATE_START = 1.25
"""Times the measured start delay that is looked ahead: starts jitter."""


class Foresight:
    """Wants the highest rate from now until a replica ordered now would be ready. No state."""

    def __init__(
        self,
        name: str,
        *,
        tick_s: float = 2.0,
        quantile: float = 0.5,
        target_utilisation: float = 0.85,
        queue_bound: int = 512,
    ) -> None:
        """name: `oracle` or `informed`. quantile: of what is told. target_utilisation: share of the learned capacity
        to use.
        """
        self.name = name
        self._tick_s = tick_s
        self._quantile = quantile
        self._target = target_utilisation
        self._queue_bound = queue_bound

    def decide(self, observation: Observation) -> Decision:
        """Follow the forecast; hold without one, without a capacity or a start delay."""
        forecast, capacity, delay = observation.forecast, observation.capacity_rps, observation.start_delay_s
        if forecast is None or capacity is None or delay is None:
            reason = Reason("no-forecast", "nothing is told of the future, holding {}", (observation.wanted,))
            return answered(
                self.name, observation, observation.wanted, None, reason, queue_bound=self._queue_bound
            )
        age = max(0.0, forecast.age_s(observation.now))
        lead = LATE_START * delay + self._tick_s
        peak = forecast.peak(age, age + lead, self._quantile)
        each = capacity * self._target
        text = "q{:g} of the next {:.0f} s is {:.1f} req/s at {:.2f} a replica"
        reason = Reason("forecast", text, (self._quantile, lead, peak, each))
        return answered(self.name, observation, peak / each, peak, reason, queue_bound=self._queue_bound)
