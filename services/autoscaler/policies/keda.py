"""KEDA on requests per second: an external metric fed to Kubernetes' HPA, and its own way to zero and back.

After kubernetes `pkg/controller/podautoscaler/replica_calculator.go` (`GetExternalPerPodMetricReplicas`: KEDA's metric
type AverageValue) and kedacore/keda `pkg/scaling/executor/scale_scaledobjects.go` (activation, cooldown). Departures:
the HPA's bounds hold at every tick, and a dead metric is held where a query over a minute would still answer.
"""

from __future__ import annotations

import math

from services.autoscaler.decision import RATE_WINDOW_S, Decision, Reason
from services.autoscaler.observation import Observation
from services.autoscaler.policies.answer import answered, out_of_bounds
from services.autoscaler.policies.behaviour import SYNC_S, Behaviour, within_tolerance
from services.autoscaler.policies.cadence import Cadence

POLL_S = 30.0
COOLDOWN_S = 300.0
RATE_S = 60
"""Seconds over which the metric is a mean: `rate(...[1m])`, as KEDA's examples for Prometheus have it."""


class Keda:
    """One ScaledObject with one trigger. State: the HPA's behaviour, when the trigger was active last."""

    name = "keda"

    def __init__(self, *, target: float = 0.7, queue_bound: int = 512) -> None:
        """target: share of a replica's capacity that the threshold is; raises ValueError unless above zero."""
        if not target > 0:
            raise ValueError(f"KEDA target {target} is not above zero")
        self._target = target
        self._queue_bound = queue_bound
        self._sync = Cadence(SYNC_S)
        self._poll = Cadence(POLL_S)
        self._behaviour = Behaviour()
        self._active_at: float | None = None

    def decide(self, observation: Observation) -> Decision:
        """Recommend at each sync of the HPA, activate and deactivate at each poll, hold in between."""
        now, current = observation.now, observation.wanted
        sync, poll = self._sync.due(now), self._poll.due(now)
        rate, capacity = observation.rate(RATE_S), observation.capacity_rps
        if observation.outage or rate is None or capacity is None:
            what = "capacity of a replica" if capacity is None else "load"
            return self._answer(
                observation, current, Reason("no-metrics", "{} unknown, holding {}", (what, current))
            )
        if self._active_at is None or rate > 0 or self._active_at > now:
            self._active_at = now
        if current == 0 or observation.min_replicas == 0:
            switched = self._switch(observation, rate, poll) if poll is not None else None
            if switched is not None:
                return switched
        if sync is None or current == 0:
            values = (self._sync.remaining_s(now), current)
            return self._answer(
                observation, current, Reason("between-syncs", "next sync in {:.0f} s, holding {}", values)
            )
        self._behaviour.found(sync, current)
        recommended, because = self._recommend(observation, rate, capacity * self._target)
        wanted, held = self._behaviour.apply(sync, observation, recommended)
        # The HPA itself never goes to zero.
        return self._answer(observation, max(1, wanted), *held, because)

    def _switch(self, observation: Observation, rate: float, poll: float) -> Decision | None:
        """KEDA's own step between none and one; None where there is none to take."""
        assert self._active_at is not None  # noqa: S101  # set by the caller
        if observation.wanted == 0:
            if rate > 0:
                text = "{:.1f} req/s: the trigger is active"
                return self._answer(
                    observation, max(1, observation.min_replicas), Reason("activated", text, (rate,))
                )
            return None
        idle = observation.now - self._active_at
        if rate > 0 or idle < COOLDOWN_S:
            return None
        text = "no request for {:.0f} s, cooldown {:.0f} s"
        return self._answer(observation, 0, Reason("deactivated", text, (idle, COOLDOWN_S)))

    def _recommend(self, observation: Observation, rate: float, each: float) -> tuple[int, Reason]:
        # Upstream counts in thousandths.
        usage, target = math.ceil(rate * 1000), max(1, round(each * 1000))
        replicas = observation.ready + observation.starting
        values = (RATE_S, rate, each)
        if replicas and within_tolerance(usage / (target * replicas)):
            text = "{} s: {:.1f} req/s, {:.2f} a replica: ratio {:.2f} over {} replicas is within 0.1 of 1"
            return replicas, Reason("tolerance", text, (*values, usage / (target * replicas), replicas))
        wanted = math.ceil(usage / target)
        return wanted, Reason("rate", "{} s: {:.1f} req/s, {:.2f} a replica -> {}", (*values, wanted))

    def _answer(self, observation: Observation, wanted: int, *reasons: Reason) -> Decision:
        reasons = (*out_of_bounds(observation, wanted), *reasons)
        demand = observation.rate(RATE_WINDOW_S)
        return answered(self.name, observation, wanted, demand, *reasons, queue_bound=self._queue_bound)
