"""What the live loop hears from the mesh, put together into the observation that a policy reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.autoscaler.actuators import ReplicaStatus
from services.autoscaler.capacity import CapacityEstimate
from services.autoscaler.observation import ForecastView, Observation
from services.autoscaler.traffic import TrafficHistory

HISTORY_S = 120
_SAMPLE_S = 2
_RATE_S = 2


class Senses:
    """Traffic, forecast and learned capacity of one app."""

    def __init__(
        self,
        *,
        capacity_rps: float | None,
        calm_latency_s: float,
        min_replicas: int | None = None,
        max_replicas: int | None = None,
    ) -> None:
        """capacity_rps: first guess for one replica. calm_latency_s: seconds a request takes when none has
        to wait; what is in flight beyond that is a queue. min_replicas, max_replicas: narrow the actuator's
        bounds.
        """
        self.traffic = TrafficHistory(HISTORY_S)
        self.capacity = CapacityEstimate(capacity_rps)
        self.forecast: ForecastView | None = None
        self._calm_latency_s = calm_latency_s
        self._min_replicas = min_replicas
        self._max_replicas = max_replicas
        self._before: ReplicaStatus | None = None

    def hear_forecast(self, message: Mapping[str, Any], now: float) -> None:
        """Take in a message of topic `forecasts`; raises ValueError or KeyError. A late older one is
        ignored.
        """
        forecast = ForecastView.from_message(message)
        known = self.forecast
        # One from the future was issued before a clock was set back: anything replaces it.
        if known is None or known.issued_at <= forecast.issued_at or known.issued_at > now + known.step_s:
            self.forecast = forecast

    def observe(self, now: float, status: ReplicaStatus) -> Observation:
        """The observation at `now`."""
        least = _clamped(self._min_replicas, status.minimum, status.minimum, status.maximum)
        most = _clamped(self._max_replicas, status.maximum, least, status.maximum)
        return Observation(
            now=now,
            arrivals=self.traffic.arrivals(now, HISTORY_S),
            wanted=status.wanted,
            ready=status.ready,
            starting=status.starting,
            draining=status.draining,
            min_replicas=least,
            max_replicas=most,
            start_delay_s=status.start_delay_s,
            capacity_rps=self.capacity.rps,
            in_flight=self.traffic.in_flight(now),
            queue=self._queue(now),
            utilisation=status.utilisation[: status.ready],
            forecast=self.forecast,
        )

    def _queue(self, now: float) -> float:
        """Requests in flight beyond those that would be if none had to wait."""
        known = [count for count in self.traffic.arrivals(now, _RATE_S) if count is not None]
        rate = sum(known) / len(known) if known else 0.0
        return max(0.0, self.traffic.in_flight(now) - rate * self._calm_latency_s)

    def learn(self, now: float, status: ReplicaStatus) -> None:
        """Learn the capacity from a fresh status, once a tick.

        A sample is worth something only while no replica comes or goes and all of them were measured.
        """
        before, self._before = self._before, status
        if before is None or before.ready != status.ready:
            return
        if any(one.starting or one.draining for one in (before, status)):
            return
        complete = len(status.utilisation) == len(before.utilisation) == status.ready
        answered = self.traffic.answered_rps(now, _SAMPLE_S)
        if complete and status.ready and answered is not None:
            both = status.utilisation + before.utilisation
            self.capacity.learn(answered, sum(both) / len(both), status.ready, self._queue(now))


def _clamped(asked: int | None, otherwise: int, least: int, most: int) -> int:
    return min(max(otherwise if asked is None else asked, least), most)
