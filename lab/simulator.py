"""A simulated run: the live loop's policy over a load, second by second, with replicas that take their time."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lab.fleet import Fleet, Starts
from lab.foresight import Foresight
from lab.load import Load
from lab.queueing import Ints, Queue, Series
from lab.server import Server
from services.autoscaler.capacity import CapacityEstimate
from services.autoscaler.decision import Decision
from services.autoscaler.observation import Observation
from services.autoscaler.policies import Policy

HISTORY_S = 120
"""Seconds of arrivals that an observation holds, as live."""

CPU_WINDOW_S = 15
"""Seconds over which a replica's CPU is measured: what Kubernetes' metrics server reports by default."""

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
    hold: Hold | None = None,
    witness: int | None = None,
) -> Run:
    """Run a policy over a load; the same arguments give the same run bit for bit.

    tick_s: seconds between two decisions. begin_with: replicas that are ready at second 0. learns: whether the
    capacity of a replica is learned as live; else it is known. witness: a second of the run
    whose tick is to be remembered. Whatever the policy raises comes through.
    """
    seconds = len(load.arrivals)
    wanted, ready, pods = (np.zeros(seconds, dtype=np.int32) for _ in range(3))
    fleet = Fleet(starts, min(max(begin_with, bounds.least), bounds.most), load.random("starts"))
    queue = Queue(server, load.arrivals, load.gaps, load.places)
    capacity = CapacityEstimate(server.capacity_rps)
    recent = deque(load.before[-HISTORY_S:].tolist(), maxlen=HISTORY_S)
    steady_since = 0
    witnessed = None
    for second in range(0, seconds, tick_s):
        stop = min(second + tick_s, seconds)
        fleet.advance(second)
        # As live: the capacity is learned only while no replica comes or goes.
        if learns and second - steady_since >= tick_s and fleet.ready:
            busy, answered = (
                queue.mean_busy(second - tick_s, second),
                queue.answered_rps(second - tick_s, second),
            )
            capacity.learn(answered, busy, fleet.ready)
        in_system = queue.in_system
        observation = Observation(
            now=load.began_at + second,
            arrivals=tuple(recent),
            wanted=fleet.wanted,
            ready=fleet.ready,
            starting=fleet.starting,
            draining=fleet.draining,
            min_replicas=bounds.least,
            max_replicas=bounds.most,
            start_delay_s=fleet.start_delay_s,
            capacity_rps=capacity.rps,
            in_flight=round(in_system),
            queue=max(0.0, in_system - fleet.ready),
            utilisation=(queue.mean_busy(max(0, second - CPU_WINDOW_S), second),) * fleet.ready
            if second
            else (),
            forecast=foresight.view(second),
        )
        decision = policy.decide(observation)
        if second <= (-1 if witness is None else witness) < stop:
            witnessed = (observation, decision)
        if decision.wanted != fleet.wanted and not (hold and hold.first <= second < hold.stop):
            # The actuator's bounds hold whatever a policy says.
            fleet.order(second, observation.bounded(decision.wanted))
        for each in range(second, stop):
            fleet.advance(each)
            wanted[each], ready[each] = fleet.wanted, fleet.ready
            pods[each] = fleet.ready + fleet.starting + fleet.draining
        if fleet.starting or fleet.draining or ready[second] != ready[stop - 1]:
            steady_since = stop
        queue.serve(second, stop, ready)
        recent.extend(load.arrivals[second:stop].tolist())
    return Run(wanted, ready, pods, queue.series, queue.histogram, witnessed)
