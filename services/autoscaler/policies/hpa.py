"""Kubernetes' Horizontal Pod Autoscaler on CPU utilisation, with its default behaviour.

After kubernetes `pkg/controller/podautoscaler`: `replica_calculator.go` (ratio, tolerance, missing and
unready pods; utilisation is a whole percentage there and so it is here) and `horizontal.go` (stabilisation,
rate limits).
"""

from __future__ import annotations

import math
from collections import deque

from services.autoscaler.counterfactual import counterfactual
from services.autoscaler.decision import RATE_WINDOW_S, Decision, Reason
from services.autoscaler.observation import Observation
from services.autoscaler.policies.cadence import Cadence

SYNC_S = 15.0
TOLERANCE = 0.1
PERIOD_S = 15.0  # of both rate limits
UP_PODS = 4
UP_FACTOR = 2
DOWN_WINDOW_S = 300.0


class Hpa:
    """The HPA controller for one target. State: recommendations of the last 300 s, scalings of the last 15
    s.
    """

    name = "hpa"

    def __init__(self, *, target: float = 0.7, queue_bound: int = 512) -> None:
        """target: share of the CPU quota to be used; raises ValueError below 1 %."""
        self._target_percent = round(target * 100)
        if self._target_percent < 1:
            raise ValueError(f"HPA target {target} is below 1 %")
        self._queue_bound = queue_bound
        self._cadence = Cadence(SYNC_S)
        self._recommended: deque[tuple[float, int]] = deque()
        self._scaled: deque[tuple[float, int]] = deque()

    def decide(self, observation: Observation) -> Decision:
        """Recommend, stabilise and limit at each sync; hold in between, and when there is no metric."""
        current = observation.wanted
        sync = self._cadence.due(observation.now)
        if sync is None:
            left = self._cadence.remaining_s(observation.now)
            return self._answer(
                observation, current, Reason("between-syncs", f"next sync in {left:.0f} s, holding {current}")
            )
        if not self._recommended:
            # As upstream does: a controller that has just started does not undo what it found.
            self._recommended.append((sync, current))
        if not observation.min_replicas <= current <= observation.max_replicas:
            wanted = observation.bounded(current)
            text = f"{current} is outside {observation.min_replicas}..{observation.max_replicas}"
            return self._answer(observation, wanted, Reason("bounds", text))
        recommended, *because = self._recommend(observation)
        if recommended is None:
            return self._answer(observation, current, *because)
        stabilised, *window = self._stabilise(sync, current, recommended)
        wanted, *limit = self._limit(sync, observation, stabilised)
        if wanted != current:
            self._scaled.append((sync, wanted - current))
        return self._answer(observation, wanted, *limit, *window, *because)

    def _recommend(self, observation: Observation) -> tuple[int | None, Reason]:
        """What the metric alone asks for; None where there is no metric to ask."""
        current, ready, missing = observation.wanted, observation.ready, observation.unmeasured
        used = [round(share * 1000) for share in observation.utilisation[:ready]]
        if not used:
            return None, Reason(
                "no-metrics", f"no utilisation of any of {ready} ready replicas, holding {current}"
            )
        ratio, percent = self._ratio(used)
        text = f"CPU {percent} % of {self._target_percent} % over {len(used)} replicas"
        unready = observation.starting if ratio > 1 else 0
        if not missing and not unready:
            if within_tolerance(ratio):
                return current, Reason("tolerance", f"{text}: ratio {ratio:.2f} is within 0.1 of 1")
            wanted = math.ceil(ratio * ready)
            return wanted, Reason("utilisation", f"{text}: ratio {ratio:.2f} x {ready} ready -> {wanted}")
        # Doubt counts against the direction: who is not seen uses all of its quota when scaling down, none
        # when up.
        if missing and ratio != 1:
            used += [1000 if ratio < 1 else 0] * missing
        used += [0] * unready
        again, _ = self._ratio(used)
        text += (
            f", {missing} missing and {unready} unready replicas counted in: ratio {ratio:.2f} -> {again:.2f}"
        )
        if within_tolerance(again) or (ratio - 1) * (again - 1) < 0:
            return current, Reason("tolerance", f"{text}, within 0.1 of 1 or on its other side: no change")
        wanted = math.ceil(again * len(used))
        if (wanted - current) * (again - 1) < 0:
            return current, Reason("tolerance", f"{text}, {wanted} would go the other way: no change")
        return wanted, Reason("utilisation", f"{text} x {len(used)} -> {wanted}")

    def _ratio(self, used: list[int]) -> tuple[float, int]:
        """Usage over target, and usage in whole percent (upstream divides integers), of thousandths of
        quotas.
        """
        percent = sum(used) * 100 // (1000 * len(used))
        return percent / self._target_percent, percent

    def _stabilise(self, sync: float, current: int, recommended: int) -> tuple[int, *tuple[Reason, ...]]:
        """Scale down to no less than the highest recommendation of the last 300 s; up at once."""
        while self._recommended and not sync - DOWN_WINDOW_S < self._recommended[0][0] <= sync:
            self._recommended.popleft()
        highest = max([recommended, *(count for _, count in self._recommended)])
        self._recommended.append((sync, recommended))
        stabilised = min(max(current, recommended), highest)
        if stabilised == recommended:
            return (stabilised,)
        text = f"{highest} was recommended within the last {DOWN_WINDOW_S:.0f} s, not down to {recommended}"
        return stabilised, Reason("stabilisation", text)

    def _limit(self, sync: float, observation: Observation, desired: int) -> tuple[int, *tuple[Reason, ...]]:
        """At most max(start + 4, 2 x start) in 15 s on the way up (100 % on the way down), and the bounds."""
        current = observation.wanted
        while self._scaled and not sync - PERIOD_S < self._scaled[0][0] <= sync:
            self._scaled.popleft()
        start = current - sum(change for _, change in self._scaled)
        most = max(current, start + UP_PODS, start * UP_FACTOR)
        if desired > most and most < observation.max_replicas:
            return most, Reason(
                "rate-limit", f"{desired} is more than {most}, all that 15 s allow from {start}"
            )
        wanted = observation.bounded(desired)
        if wanted == desired:
            return (wanted,)
        bounds = f"{observation.min_replicas}..{observation.max_replicas}"
        return wanted, Reason("bounds", f"{desired} is outside {bounds}")

    def _answer(self, observation: Observation, wanted: int, *reasons: Reason) -> Decision:
        wanted = observation.bounded(wanted)
        return Decision(
            t=observation.now,
            policy=self.name,
            wanted=wanted,
            previous=observation.wanted,
            reasons=reasons,
            counterfactual=counterfactual(
                observation, wanted, observation.rate(RATE_WINDOW_S), queue_bound=self._queue_bound
            ),
        )


def within_tolerance(ratio: float) -> bool:
    """Whether usage is so near to the target that the HPA holds."""
    return abs(1.0 - ratio) <= TOLERANCE
