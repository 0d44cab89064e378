"""The way down: to what was needed at most during a hold, and only as far as the survivors can carry the load."""

from __future__ import annotations

import math
from collections import deque

from services.autoscaler.decision import Reason
from services.autoscaler.observation import Observation

ZERO_HOLD_S = 30.0


class Descent:
    """Remembers what was needed, and lets go of what was not needed for a whole hold."""

    def __init__(self, target_utilisation: float, longest_pause_s: float) -> None:
        """target_utilisation: share of their CPU that survivors may use. longest_pause_s: between two needs that are
        taken for one unbroken series; after a longer pause the hold begins anew.
        """
        self._target = target_utilisation
        self._longest_pause_s = longest_pause_s
        self._needed: deque[tuple[float, int]] = deque()
        self._began = 0.0

    def forget(self) -> None:
        """Begin the hold anew: what was needed in the meantime is not known."""
        self._needed.clear()

    def remember(self, now: float, need: int) -> None:
        """Note what is needed at this tick."""
        if self._needed and not 0 <= now - self._needed[-1][0] <= self._longest_pause_s:
            self._needed.clear()
        if not self._needed:
            self._began = now
        self._needed.append((now, need))
        while self._needed[0][0] < now - ZERO_HOLD_S:
            self._needed.popleft()

    def step(self, observation: Observation, need: int, hold_s: float) -> tuple[int, Reason]:
        """The count to go on with while `need` is less than what is wanted, and why.

        hold_s: seconds, ZERO_HOLD_S at most; the last replica is always held for that long.
        """
        current = observation.wanted
        if current == 1:
            hold_s = ZERO_HOLD_S
        start = observation.now - hold_s
        highest = max(count for t, count in self._needed if t >= start)
        if highest >= current:
            text = "{} would do now, but {} were needed within the last {:.0f} s"
            return current, Reason("hold", text, (need, highest, hold_s))
        if self._began > start:
            seen = observation.now - self._began
            text = "{} would do, but only {:.0f} s of {:.0f} s were seen, holding {}"
            return current, Reason("hold", text, (need, seen, hold_s, current))
        survivors = self._carrying(observation, highest)
        if survivors > highest:
            cpu = sum(observation.utilisation) * 100
            text = "{} would do by the estimate, but all use {:.0f} % of a replica's CPU, {} at {:.0f} %: {}"
            kept = min(survivors, current)
            return kept, Reason("survivors", text, (highest, cpu, survivors, self._target * 100, kept))
        text = "no more than {} needed for {:.0f} s: {}"
        return highest, Reason("step-down", text, (highest, hold_s, highest))

    def _carrying(self, observation: Observation, replicas: int) -> int:
        """`replicas`, or as many more as carry the measured CPU; none is a count that carries nothing."""
        if not replicas or not observation.utilisation or observation.unmeasured:
            return replicas
        return max(replicas, math.ceil(sum(observation.utilisation) / self._target - 1e-9))
