"""Interleaved rounds: several things measured in turn, so that a drift of the machine meets all of them.

Rounds go forwards and backwards in turn (A B, B A, A B, ...) because a machine drifts: what slows one round slows its
partner too, and differences and ratios are taken within a round before the median is taken over rounds. Many short
rounds tell more than few long ones: a virtual machine changes its speed by a third from one second to the next.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypedDict

from lab.closed_loop import Load, LoadFailed, LoadRunner, Target

CONNECTIONS = (1, 8, 64)
_MOST_ERRORS = 0.01  # share of a run's requests; beyond it the figure is of something that is broken

Say = Callable[[str], None]


class Run(Protocol):
    """One thing that can be measured: a load generator with its target, or a model without a server."""

    def __call__(self, *, connections: int, seconds: float, warmup_s: float) -> Load:
        """Measures for ``seconds`` after a warm-up that isn't counted, as many requests under way at once as
        ``connections``."""


class Broken(LoadFailed):
    """``name`` answered wrongly, or not at all, more often than a figure may hide."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


class Point(TypedDict):
    """Medians over the rounds at one number of connections."""

    rps: float
    p50_ms: float
    p99_ms: float


def check_rounds(rounds: int) -> None:
    """Raises ValueError for fewer than one round."""
    if rounds < 1:
        raise ValueError(f"{rounds} rounds: at least one is needed")


def at_targets(targets: Mapping[str, Target], run: LoadRunner) -> dict[str, Run]:
    """Each target as something that ``interleave`` measures."""
    return {name: functools.partial(run, target) for name, target in targets.items()}


def interleave(
    runs: Mapping[str, Run],
    connections: int,
    *,
    rounds: int,
    seconds: float,
    warmup_s: float,
    say: Say | None,
) -> dict[str, list[Load]]:
    """Each round measures everything once; every other round goes backwards, so that none is always last.

    Raises Broken when more than 1 % of a run's requests fail.
    """
    loads: dict[str, list[Load]] = {name: [] for name in runs}
    for number in range(rounds):
        order = list(runs) if number % 2 == 0 else list(reversed(list(runs)))
        for name in order:
            load = runs[name](connections=connections, seconds=seconds, warmup_s=warmup_s)
            if load.ok == 0 or load.errors > _MOST_ERRORS * load.requests:
                raise Broken(
                    name,
                    f"{name} at {connections} connections: {load.errors} of {load.requests} requests failed, "
                    f"first: {load.first_error or 'no answer within the round'}",
                )
            loads[name].append(load)
            if say is not None:
                say(
                    f"round {number + 1} of {rounds}, {connections} connections, {name}: "
                    f"{load.rps:.0f} requests/s, p50 {p50(load):.2f} ms, p99 {p99(load):.2f} ms"
                )
    return loads


def point(loads: Sequence[Load]) -> Point:
    """The medians of a thing's rounds."""
    return Point(
        rps=median([load.rps for load in loads], 1),
        p50_ms=median([p50(load) for load in loads], 3),
        p99_ms=median([p99(load) for load in loads], 3),
    )


def ratios(ours: Sequence[Load], theirs: Sequence[Load]) -> list[float]:
    """Throughput against throughput, round by round."""
    return [a.rps / b.rps for a, b in zip(ours, theirs, strict=True)]


def added(ours: Sequence[Load], theirs: Sequence[Load], at: Callable[[Load], float]) -> float:
    """Median of the rounds' differences in ``at``, milliseconds."""
    return median([at(a) - at(b) for a, b in zip(ours, theirs, strict=True)], 3)


def p50(load: Load) -> float:
    """Milliseconds; 0 where nothing was answered."""
    return load.p50_ms or 0.0


def p99(load: Load) -> float:
    """Milliseconds; 0 where nothing was answered."""
    return load.p99_ms or 0.0


def errors(loads: Mapping[str, Sequence[Load]]) -> int:
    """Requests that weren't answered rightly."""
    return sum(load.errors for of_rounds in loads.values() for load in of_rounds)


def median(values: Sequence[float], digits: int) -> float:
    """Rounded to ``digits``."""
    return round(statistics.median(values), digits)
