"""A simulated run: the live loop's policy over a load, second by second, with replicas that take their time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import lab.compiled  # noqa: F401 (compiles what the policies compute)
from lab.fleet import Fleet, Starts
from lab.foresight import Foresight
from lab.load import WARM_UP_S, Load
from lab.queueing import CPU_WINDOW_S, Ints, Queue, Series
from lab.server import Server
from services.autoscaler.capacity import CapacityEstimate
from services.autoscaler.decision import Decision
from services.autoscaler.observation import Observation
from services.autoscaler.policies import Policy

HISTORY_S = 120
"""Seconds of arrivals that an observation holds, as live."""

REPORT_S = 3600
"""Simulated seconds after which a run says how far it is."""

_CUT_S = 3600

Reached = Callable[[int], None]
"""Called now and then with how many seconds of a load are done."""

Replicas = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Bounds:
    """Fewest and most replicas."""

    least: int
    most: int

    def __post_init__(self) -> None:
        """Raises ValueError when they exclude all or allow none."""
        if not 0 <= self.least <= self.most or self.most < 1:
            raise ValueError(
                f"min {self.least} and max {self.most} replicas: need 0 <= min <= max and max >= 1"
            )


@dataclass(frozen=True, slots=True)
class Hold:
    """From `first` to before `stop` (seconds of the run) the policy is asked and not obeyed: replicas stay."""

    first: int
    stop: int


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What became of a load under a policy.

    wanted, ready, pods: int32[n] per second; pods are all that exist, starting and draining ones included. series,
    histogram: see lab.queueing. witnessed: observation and decision of the tick that was asked for, if any.
    """

    wanted: Replicas
    ready: Replicas
    pods: Replicas
    series: Series
    histogram: Ints
    witnessed: tuple[Observation, Decision] | None


def simulate(
    policy: Policy,
    load: Load,
    server: Server,
    starts: Starts,
    bounds: Bounds,
    foresight: Foresight,
    *,
    tick_s: int = 2,
    begin_with: int,
    learns: bool = True,
    warm_up_s: int = WARM_UP_S,
    hold: Hold | None = None,
    witness: int | None = None,
    reached: Reached = lambda seconds: None,
) -> Run:
    """Run a policy over a load; the same arguments give the same run bit for bit.

    tick_s: seconds between two decisions. begin_with: replicas that are ready at second 0. learns: whether the
    capacity of a replica is learned as live; else it is known. warm_up_s: seconds before second 0 that the policy lives
    through, as far as the load knows them. witness: a second of the run
    whose tick is to be remembered. Whatever the policy raises comes through.
    """
    seconds = len(load.arrivals)
    fleet = Fleet(starts, min(max(begin_with, bounds.least), bounds.most), load.random("starts"))
    queue = Queue(server, load.arrivals, load.gaps, load.places)
    capacity = CapacityEstimate(server.capacity_rps)
    seen = Arrivals(load)
    _live_through(policy, load, server, bounds, foresight, fleet, tick_s, warm_up_s)
    counts: list[tuple[int, int, int, int]] = []  # (second, wanted, ready, pods) of each change
    steady = False
    witnessed = None
    report_at = 0
    for second in range(0, seconds, tick_s):
        if second >= report_at:
            reached(second)
            report_at = second + REPORT_S
        stop = min(second + tick_s, seconds)
        moving = fleet.moving
        if moving:
            fleet.advance(second)
        ready, in_system = fleet.ready, queue.in_system
        waiting = in_system - ready if in_system > ready else 0.0
        # As live: the capacity is learned only while no replica comes or goes.
        if learns and steady and ready:
            capacity.learn(queue.answered_rps, queue.busy, ready, waiting)
        observation = Observation(
            now=load.began_at + second,
            arrivals=seen.until(second),
            wanted=fleet.wanted,
            ready=ready,
            starting=fleet.starting if moving else 0,
            draining=fleet.draining if moving else 0,
            min_replicas=bounds.least,
            max_replicas=bounds.most,
            start_delay_s=fleet.start_delay_s,
            capacity_rps=capacity.rps,
            in_flight=round(in_system),
            queue=waiting,
            utilisation=(queue.cpu,) * ready if second else (),
            forecast=foresight.view(second),
        )
        decision = policy.decide(observation)
        if witness is not None and second <= witness < stop:
            witnessed = (observation, decision)
        if decision.wanted != fleet.wanted and not (hold and hold.first <= second < hold.stop):
            # The actuator's bounds hold whatever a policy says.
            fleet.order(second, observation.bounded(decision.wanted))
            moving = True
        if moving or not counts:
            at = second
            while at < stop:
                fleet.advance(at)
                until = min(stop, fleet.next_due)
                counts.append((at, fleet.wanted, fleet.ready, fleet.pods))
                queue.serve(at, until, fleet.ready)
                at = until
        else:
            queue.serve(second, stop, ready)
        steady = not moving
    wanted, ready_at, pods = _by_second(counts, seconds)
    return Run(wanted, ready_at, pods, queue.series, queue.histogram, witnessed)


def _live_through(
    policy: Policy,
    load: Load,
    server: Server,
    bounds: Bounds,
    foresight: Foresight,
    fleet: Fleet,
    tick_s: int,
    warm_up_s: int,
) -> None:
    """Let a policy see the time before second 0, with replicas that come and go at once and no queue."""
    seen = Arrivals(load)
    wanted = fleet.wanted
    for second in range(-(min(warm_up_s, len(load.before)) // tick_s) * tick_s, 0, tick_s):
        arrivals = seen.until(second)
        window = arrivals[-CPU_WINDOW_S:]
        full = max(wanted, 1) * server.capacity_rps
        busy = min(1.0, sum(window) / len(window) / full) if window else 0.0
        observation = Observation(
            now=load.began_at + second,
            arrivals=arrivals,
            wanted=wanted,
            ready=wanted,
            min_replicas=bounds.least,
            max_replicas=bounds.most,
            start_delay_s=fleet.start_delay_s,
            capacity_rps=server.capacity_rps,
            utilisation=(busy,) * wanted,
            forecast=foresight.view(second),
        )
        wanted = observation.bounded(policy.decide(observation).wanted)


class Arrivals:
    """The counts of the last HISTORY_S seconds at any second of a run, cut from an hour at a time: a tuple of Python's
    own numbers for all of a long run would take as much memory as the run itself."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._oldest = -len(load.before)
        self._first = self._stop = 0
        self._counts: tuple[int, ...] = ()

    def until(self, second: int) -> tuple[int, ...]:
        """Arrivals of each second before `second`, which may lie before 0; oldest first."""
        first = max(second - HISTORY_S, self._oldest)
        if not self._first <= first <= second <= self._stop:
            self._first, self._stop = first, min(second + _CUT_S, len(self._load.arrivals))
            before, arrivals = self._load.before, self._load.arrivals
            parts = (
                before[len(before) + first :] if first < 0 else before[:0],
                arrivals[max(first, 0) : max(self._stop, 0)],
            )
            self._counts = tuple(np.concatenate(parts).tolist())
        return self._counts[first - self._first : second - self._first]


def _by_second(counts: list[tuple[int, int, int, int]], seconds: int) -> Replicas:
    """int32[3, seconds] of counts that are noted at their changes."""
    noted = np.asarray(counts, dtype=np.int32)
    lasting = np.diff(noted[:, 0], append=seconds)
    return np.repeat(noted[:, 1:], lasting, axis=0).T
