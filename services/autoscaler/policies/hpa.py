"""Kubernetes' Horizontal Pod Autoscaler on CPU utilisation, with its default behaviour.

After kubernetes `pkg/controller/podautoscaler/replica_calculator.go`: ratio, tolerance, missing and unready pods;
utilisation is a whole percentage there and so it is here. What becomes of a recommendation: `behaviour.py`.
"""

from __future__ import annotations

import math

from services.autoscaler.decision import RATE_WINDOW_S, Decision, Reason
from services.autoscaler.observation import Observation
from services.autoscaler.policies.answer import answered, out_of_bounds
from services.autoscaler.policies.behaviour import SYNC_S, Behaviour, within_tolerance
from services.autoscaler.policies.cadence import Cadence


class Hpa:
    """The HPA controller for one target. State: its behaviour's."""

    name = "hpa"

    def __init__(self, *, target: float = 0.7, queue_bound: int = 512) -> None:
        """target: share of the CPU quota to be used; raises ValueError below 1 %."""
        self._target_percent = round(target * 100)
        if self._target_percent < 1:
            raise ValueError(f"HPA target {target} is below 1 %")
        self._queue_bound = queue_bound
        self._cadence = Cadence(SYNC_S)
        self._behaviour = Behaviour()

    def decide(self, observation: Observation) -> Decision:
        """Recommend, stabilise and limit at each sync; hold in between, and when there is no metric."""
        current = observation.wanted
        sync = self._cadence.due(observation.now)
        if sync is None:
            values = (self._cadence.remaining_s(observation.now), current)
            reason = Reason("between-syncs", "next sync in {:.0f} s, holding {}", values)
            return self._answer(observation, current, reason)
        self._behaviour.found(sync, current)
        if outside := out_of_bounds(observation, current):
            return self._answer(observation, current, *outside)
        recommended, *because = self._recommend(observation)
        if recommended is None:
            return self._answer(observation, current, *because)
        wanted, held = self._behaviour.apply(sync, observation, recommended)
        # Nobody can be measured at none, so upstream never goes there by itself.
        return self._answer(observation, max(1, wanted) if current else 0, *held, *because)

    def _recommend(self, observation: Observation) -> tuple[int | None, Reason]:
        """What the metric alone asks for; None where there is no metric to ask."""
        current, ready, missing = observation.wanted, observation.ready, observation.unmeasured
        used = _thousandths(observation.utilisation[:ready])
        if not used:
            text = "no utilisation of any of {} ready replicas, holding {}"
            return None, Reason("no-metrics", text, (ready, current))
        ratio, percent = self._ratio(used)
        text = "CPU {} % of {} % over {} replicas"
        values: tuple[int | float, ...] = (percent, self._target_percent, len(used))
        unready = observation.starting if ratio > 1 else 0
        if not missing and not unready:
            if within_tolerance(ratio):
                text += ": ratio {:.2f} is within 0.1 of 1"
                return current, Reason("tolerance", text, (*values, ratio))
            wanted = math.ceil(ratio * ready)
            text += ": ratio {:.2f} x {} ready -> {}"
            return wanted, Reason("utilisation", text, (*values, ratio, ready, wanted))
        # Doubt counts against the direction: who is not seen uses all of its quota when scaling down, none
        # when up.
        if missing and ratio != 1:
            used += [1000 if ratio < 1 else 0] * missing
        used += [0] * unready
        again, _ = self._ratio(used)
        text += ", {} missing and {} unready replicas counted in: ratio {:.2f} -> {:.2f}"
        values = (*values, missing, unready, ratio, again)
        if within_tolerance(again) or (ratio - 1) * (again - 1) < 0:
            return current, Reason(
                "tolerance", text + ", within 0.1 of 1 or on its other side: no change", values
            )
        wanted = math.ceil(again * len(used))
        values = (*values, len(used), wanted)
        if (wanted - current) * (again - 1) < 0:
            text += " x {} -> {}, which would go the other way: no change"
            return current, Reason("tolerance", text, values)
        return wanted, Reason("utilisation", text + " x {} -> {}", values)

    def _ratio(self, used: list[int]) -> tuple[float, int]:
        """Usage over target, and usage in whole percent (upstream divides integers), of thousandths of
        quotas.
        """
        percent = sum(used) * 100 // (1000 * len(used))
        return percent / self._target_percent, percent

    def _answer(self, observation: Observation, wanted: int, *reasons: Reason) -> Decision:
        demand = observation.rate(RATE_WINDOW_S)
        return answered(self.name, observation, wanted, demand, *reasons, queue_bound=self._queue_bound)


def _thousandths(shares: tuple[float, ...]) -> list[int]:
    """Of a quota, for each share of it."""
    # Where all replicas share one queue, as in the lab and on paper, all use the same.
    if shares and shares.count(shares[0]) == len(shares):
        return [round(shares[0] * 1000)] * len(shares)
    return [round(share * 1000) for share in shares]
