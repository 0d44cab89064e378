"""Knative's Pod Autoscaler: a stable and a panic window over requests per second or concurrency.

After knative/serving `pkg/autoscaler/scaling/autoscaler.go`, its defaults in
`config/core/configmaps/autoscaler.yaml`.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Literal

from services.autoscaler.decision import Decision, Reason
from services.autoscaler.observation import Observation
from services.autoscaler.policies.answer import answered, out_of_bounds
from services.autoscaler.policies.cadence import Cadence

TICK_S = 2.0
STABLE_S = 60
PANIC_S = 6
PANIC_THRESHOLD = 2.0
MOST_UP = 1000.0
MOST_DOWN = 2.0
ZERO_GRACE_S = 30.0

Metric = Literal["rps", "concurrency"]

_SHOWN = "{} s: {:.0f} {} -> {}, {} s: {:.0f} -> {} at {:.0f} a replica"


class Kpa:
    """The KPA of one revision. State: since when it panics, and the running maximum of that time."""

    name = "kpa"

    def __init__(
        self,
        *,
        target: float = 0.7,
        metric: Metric = "rps",
        concurrency: float = 100.0,
        queue_bound: int = 512,
    ) -> None:
        """target: share of what a replica can take, which is its learned capacity for the metric `rps` and
        `concurrency` requests at a time for the other. Raises ValueError unless both are above zero.
        """
        if not (target > 0 and concurrency > 0):
            raise ValueError(f"KPA target {target} and concurrency {concurrency} must be above zero")
        self._target = target
        self._metric: Metric = metric
        self._concurrency = concurrency
        self._queue_bound = queue_bound
        self._cadence = Cadence(TICK_S)
        self._in_flight: deque[tuple[float, int]] = deque()
        self._started = False
        self._panic_at: float | None = None
        self._panic_most = 0
        self._idle_since: float | None = None

    def decide(self, observation: Observation) -> Decision:
        """Decide every 2 s, hold in between, and while nothing is known of the metric."""
        now, current = observation.now, observation.wanted
        if self._cadence.due(now) is None:
            return self._answer(observation, current, None, Reason("between-ticks", "holding {}", (current,)))
        if not self._started:
            self._started = True
            if observation.ready > 1:
                # History is lost on a restart and a half-empty window would scale down: upstream starts in
                # panic.
                self._panic_at, self._panic_most = now, observation.ready
        stable, panic, each = self._measure(observation)
        if stable is None or panic is None or each is None:
            what = "capacity of a replica" if each is None else "load"
            return self._answer(
                observation, current, None, Reason("no-metrics", "{} unknown, holding {}", (what, current))
            )
        ready = max(1, observation.ready)
        want_stable, want_panic = math.ceil(stable / each), math.ceil(panic / each)
        least, most = math.floor(ready / MOST_DOWN), math.ceil(MOST_UP * ready)
        unit = "req/s" if self._metric == "rps" else "requests in flight"
        shown = (PANIC_S, panic, unit, want_panic, STABLE_S, stable, want_stable, each)
        self._panic(now, want_panic / ready >= PANIC_THRESHOLD)
        desired = min(max(want_stable, least), most)
        if self._panic_at is None:
            text = _SHOWN + "; stable window decides, clamped to {}..{}: {}"
            reason = Reason("stable", text, (*shown, least, most, desired))
        else:
            self._panic_most = max(self._panic_most, desired, min(max(want_panic, least), most))
            desired = self._panic_most
            text = _SHOWN + "; panicking since {:.0f} s, never below {}"
            reason = Reason("panic", text, (*shown, now - self._panic_at, desired))
        return self._answer(observation, self._graceful(now, desired), max(stable, panic), reason)

    def _measure(self, observation: Observation) -> tuple[float | None, float | None, float | None]:
        """The metric over the stable and over the panic window, and its target for one replica."""
        if self._metric == "rps":
            capacity = observation.capacity_rps
            each = None if capacity is None else capacity * self._target
            return observation.rate(STABLE_S), observation.rate(PANIC_S), each
        now = observation.now
        while self._in_flight and not now - STABLE_S < self._in_flight[0][0] < now:
            self._in_flight.popleft()
        self._in_flight.append((now, observation.in_flight))
        stable = [count for _, count in self._in_flight]
        panic = [count for t, count in self._in_flight if t > now - PANIC_S]
        return sum(stable) / len(stable), sum(panic) / len(panic), self._concurrency * self._target

    def _panic(self, now: float, over: bool) -> None:
        """Enter or extend the panic when the short window asks for twice of what there is; leave it 60 s
        later.
        """
        if over:
            self._panic_at = now
        elif self._panic_at is not None and not 0 <= now - self._panic_at <= STABLE_S:
            self._panic_at, self._panic_most = None, 0

    def _graceful(self, now: float, desired: int) -> int:
        """The last replica goes only when none was wanted for 30 s."""
        if desired > 0:
            self._idle_since = None
            return desired
        if self._idle_since is None or now < self._idle_since:
            self._idle_since = now
        return 0 if now - self._idle_since >= ZERO_GRACE_S else 1

    def _answer(
        self, observation: Observation, desired: int, demand: float | None, reason: Reason
    ) -> Decision:
        reasons = (*out_of_bounds(observation, desired), reason)
        if self._metric != "rps" or demand is None:
            demand = observation.rate(PANIC_S)
        return answered(self.name, observation, desired, demand, *reasons, queue_bound=self._queue_bound)
