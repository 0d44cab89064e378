"""The way down: one replica at a time, after a hold, and only where the survivors can carry the load."""

from __future__ import annotations

from collections import deque

from services.autoscaler.decision import Reason
from services.autoscaler.observation import Observation

ZERO_HOLD_S = 30.0
_SPARE = 0.95
"""Survivors must stay this far below the target, or the next tick would bring the replica back."""


class Descent:
    """Remembers what was needed, and lets go of a replica when no more was needed for a whole hold."""

    def __init__(self, target_utilisation: float, longest_pause_s: float) -> None:
        """target_utilisation: share of the capacity to use. longest_pause_s: between two needs that are
        taken for one unbroken series; after a longer pause the hold begins anew.
        """
        self._limit = target_utilisation * 1.001
        self._longest_pause_s = longest_pause_s
        self._needed: deque[tuple[float, int]] = deque()
        self._began = 0.0

    def forget(self) -> None:
        """Begin the hold anew: what was needed in the meantime is not known."""
        self._needed.clear()

    def remember(self, now: float, need: int, hold_s: float) -> None:
        """Note what is needed at this tick."""
        if self._needed and not 0 <= now - self._needed[-1][0] <= self._longest_pause_s:
            self._needed.clear()
        if not self._needed:
            self._began = now
        self._needed.append((now, need))
        while self._needed[0][0] < now - max(hold_s, ZERO_HOLD_S):
            self._needed.popleft()

    def step(
        self, observation: Observation, need: int, demand_rps: float | None, hold_s: float
    ) -> tuple[int, Reason]:
        """The count to go on with while `need` is less than what is wanted, and why."""
        current = observation.wanted
        if current == 1:
            hold_s = max(hold_s, ZERO_HOLD_S)
        start = observation.now - hold_s
        highest = max(count for t, count in self._needed if t >= start)
        if highest >= current:
            text = "{} would do now, but {} were needed within the last {:.0f} s"
            return current, Reason("hold", text, (need, highest, hold_s))
        if self._began > start:
            seen = observation.now - self._began
            text = "{} would do, but only {:.0f} s of {:.0f} s were seen, holding {}"
            return current, Reason("hold", text, (need, seen, hold_s, current))
        objection = self._objection(observation, highest, demand_rps)
        if objection is not None:
            return current, objection
        text = "no more than {} needed for {:.0f} s"
        return highest, Reason("step-down", text, (highest, hold_s))

    def _objection(self, observation: Observation, survivors: int, demand_rps: float | None) -> Reason | None:
        """Why the survivors could not carry the load: by the estimated capacity, or by the measured CPU."""
        if survivors == 0:
            return None
        if demand_rps is not None and observation.capacity_rps is not None:
            load = demand_rps / (survivors * observation.capacity_rps)
            if load > self._limit:
                text = "{} left would run at {:.0f} % for {:.0f} req/s, limit {:.0f} %"
                values = (survivors, load * 100, demand_rps, self._limit * 100)
                return Reason("survivors", text, values)
        if observation.utilisation and not observation.unmeasured:
            cpu = sum(observation.utilisation) / survivors
            if cpu > self._limit:
                text = "{} left would use {:.0f} % of their CPU, limit {:.0f} %"
                return Reason("survivors", text, (survivors, cpu * 100, self._limit * 100))
        return None
