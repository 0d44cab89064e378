"""What Kubernetes' HPA makes of a recommendation, whatever metric it came from: stabilisation and rate limits.

After kubernetes `pkg/controller/podautoscaler/horizontal.go` (`stabilizeRecommendationWithBehaviors`,
`convertDesiredReplicasWithBehaviorRate`) with the defaults of the field `behavior`.
"""

from __future__ import annotations

from collections import deque
from operator import itemgetter

from services.autoscaler.decision import Reason
from services.autoscaler.observation import Observation
from services.autoscaler.policies.answer import out_of_bounds

SYNC_S = 15.0
TOLERANCE = 0.1
PERIOD_S = 15.0  # of both rate limits
UP_PODS = 4
UP_FACTOR = 2
DOWN_WINDOW_S = 300.0


class Behaviour:
    """State: recommendations of the last 300 s, scalings of the last 15 s."""

    def __init__(self) -> None:
        self._recommended: deque[tuple[float, int]] = deque()
        self._scaled: deque[tuple[float, int]] = deque()

    def found(self, sync: float, current: int) -> None:
        """Say what there was at a sync; the first one counts as a recommendation.

        As upstream does: a controller that has just started does not undo what it found.
        """
        if not self._recommended:
            self._recommended.append((sync, current))

    def apply(
        self, sync: float, observation: Observation, recommended: int
    ) -> tuple[int, tuple[Reason, ...]]:
        """The count to go on with from this sync (epoch seconds), and what held the recommendation back."""
        stabilised, window = self._stabilise(sync, observation.wanted, recommended)
        wanted, limit = self._limit(sync, observation, stabilised)
        if wanted != observation.wanted:
            self._scaled.append((sync, wanted - observation.wanted))
        return wanted, (*limit, *window)

    def _stabilise(self, sync: float, current: int, recommended: int) -> tuple[int, tuple[Reason, ...]]:
        """Scale down to no less than the highest recommendation of the last 300 s; up at once."""
        while self._recommended and not sync - DOWN_WINDOW_S < self._recommended[0][0] <= sync:
            self._recommended.popleft()
        highest = (
            max(recommended, *map(itemgetter(1), self._recommended)) if self._recommended else recommended
        )
        self._recommended.append((sync, recommended))
        stabilised = min(max(current, recommended), highest)
        if stabilised == recommended:
            return stabilised, ()
        text = "{} was recommended within the last {:.0f} s, not down to {}"
        return stabilised, (Reason("stabilisation", text, (highest, DOWN_WINDOW_S, recommended)),)

    def _limit(self, sync: float, observation: Observation, desired: int) -> tuple[int, tuple[Reason, ...]]:
        """At most max(start + 4, 2 x start) in 15 s on the way up (100 % on the way down), and the bounds."""
        current = observation.wanted
        while self._scaled and not sync - PERIOD_S < self._scaled[0][0] <= sync:
            self._scaled.popleft()
        start = current - sum(change for _, change in self._scaled)
        most = max(current, start + UP_PODS, start * UP_FACTOR)
        if desired > most and most < observation.max_replicas:
            text = "{} is more than {}, all that 15 s allow from {}"
            return most, (Reason("rate-limit", text, (desired, most, start)),)
        return observation.bounded(desired), out_of_bounds(observation, desired)


def within_tolerance(ratio: float) -> bool:
    """Whether usage is so near to the target that the HPA holds."""
    return abs(1.0 - ratio) <= TOLERANCE
