"""What a Dapr hop and the whole mesh cost, in interleaved rounds: pure logic over a load generator.

Rounds are interleaved (A B, B A, A B, ...) because a machine drifts: what slows one round slows its partner
too, and the differences and ratios are taken within a round before the median is taken over rounds. Many short
rounds tell more than few long ones: a virtual machine changes its speed by a third from one second to the next. Who
starts the meshes and knows their addresses is the caller's affair; all targets must be up at once.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict

from lab.closed_loop import Load, LoadFailed, LoadRunner, Target

PATH_CONNECTIONS = (1, 8, 64)
_HOP_CONNECTIONS = 32
_MOST_ERRORS = 0.01  # share of a run's requests; beyond it the figure is of a broken path

Say = Callable[[str], None]


class HopFigures(TypedDict):
    """hop_added_*: milliseconds that one Dapr hop adds at one connection; hop_rps_32: through the hop at 32;
    direct_rps_32: without it; installed_hop_*: the same through the sidecars of an installed daprd, None where none was
    measured; errors: requests that weren't answered rightly, over all rounds."""

    hop_added_p50_ms: float
    hop_added_p99_ms: float
    hop_rps_32: float
    direct_rps_32: float
    installed_hop_added_p50_ms: float | None
    installed_hop_rps_32: float | None
    errors: int


class PathPoint(TypedDict):
    """Medians over the rounds at one number of connections."""

    rps: float
    p50_ms: float
    p99_ms: float


class PathFigures(TypedDict):
    """path: the mesh as it is; mtls_off_path: without mTLS; direct_path: the same services without sidecars,
    each by number of connections ("1", "8", "64"); mesh_to_direct_64: median of the rounds' ratios of
    throughput at 64 connections; mesh_to_direct_64_rounds: those ratios; errors: over all rounds."""

    path: dict[str, PathPoint]
    mtls_off_path: dict[str, PathPoint]
    direct_path: dict[str, PathPoint]
    mesh_to_direct_64: float
    mesh_to_direct_64_rounds: list[float]
    errors: int


def bench_hop(
    direct: Target,
    hop: Target,
    run: LoadRunner,
    *,
    installed: Target | None = None,
    rounds: int = 15,
    seconds: float = 1.0,
    warmup_s: float = 0.3,
    say: Say | None = None,
) -> HopFigures:
    """One app called directly against the same app called through a sidecar's invoke address.

    ``hop`` is one Dapr hop: caller -> caller's sidecar -> mTLS -> app's sidecar -> app; ``installed`` is the same in
    a mesh of an installed daprd, what a user would run instead. Each round measures all of them at one connection
    and at 32. Raises LoadFailed when more than 1 % of a run's requests fail, ValueError for fewer than one round.
    """
    _check_rounds(rounds)
    targets = {"direct": direct, "one hop": hop}
    other = "one hop, installed daprd"
    if installed is not None:
        targets[other] = installed
    one = _interleave(targets, 1, run, rounds, seconds, warmup_s, say)
    many = _interleave(targets, _HOP_CONNECTIONS, run, rounds, seconds, warmup_s, say)

    def added(name: str, at: Callable[[Load], float]) -> float:
        return _median([at(a) - at(b) for a, b in zip(one[name], one["direct"], strict=True)], 3)

    def rps(name: str) -> float:
        return _median([load.rps for load in many[name]], 1)

    return HopFigures(
        hop_added_p50_ms=added("one hop", _p50),
        hop_added_p99_ms=added("one hop", _p99),
        hop_rps_32=rps("one hop"),
        direct_rps_32=rps("direct"),
        installed_hop_added_p50_ms=added(other, _p50) if other in targets else None,
        installed_hop_rps_32=rps(other) if other in targets else None,
        errors=_errors(one) + _errors(many),
    )


def bench_paths(
    mesh: Target,
    mtls_off: Target,
    direct: Target,
    run: LoadRunner,
    *,
    rounds: int = 15,
    seconds: float = 1.0,
    warmup_s: float = 0.3,
    say: Say | None = None,
) -> PathFigures:
    """The whole path of a request in three builds of the same services: under mTLS, with plaintext sidecars,
    and wired directly, at 1, 8 and 64 connections. Raises as ``bench_hop`` does."""
    _check_rounds(rounds)
    targets = {"mesh": mesh, "mTLS off": mtls_off, "direct": direct}
    points: dict[str, dict[str, PathPoint]] = {name: {} for name in targets}
    ratios: list[float] = []
    errors = 0
    for connections in PATH_CONNECTIONS:
        loads = _interleave(targets, connections, run, rounds, seconds, warmup_s, say)
        errors += _errors(loads)
        for name, of_rounds in loads.items():
            points[name][str(connections)] = _point(of_rounds)
        ratios = [a.rps / b.rps for a, b in zip(loads["mesh"], loads["direct"], strict=True)]
    return PathFigures(
        path=points["mesh"],
        mtls_off_path=points["mTLS off"],
        direct_path=points["direct"],
        mesh_to_direct_64=_median(ratios, 3),
        mesh_to_direct_64_rounds=[round(ratio, 3) for ratio in ratios],
        errors=errors,
    )


def _check_rounds(rounds: int) -> None:
    if rounds < 1:
        raise ValueError(f"{rounds} rounds: at least one is needed")


def _interleave(
    targets: Mapping[str, Target],
    connections: int,
    run: LoadRunner,
    rounds: int,
    seconds: float,
    warmup_s: float,
    say: Say | None,
) -> dict[str, list[Load]]:
    """Each round measures every target once; every other round goes backwards, so that none is always
    last."""
    loads: dict[str, list[Load]] = {name: [] for name in targets}
    for number in range(rounds):
        order = list(targets) if number % 2 == 0 else list(reversed(list(targets)))
        for name in order:
            load = run(targets[name], connections=connections, seconds=seconds, warmup_s=warmup_s)
            if load.ok == 0 or load.errors > _MOST_ERRORS * load.requests:
                raise LoadFailed(
                    f"{name} at {connections} connections: {load.errors} of {load.requests} requests failed, "
                    f"first: {load.first_error or 'no answer within the round'}"
                )
            loads[name].append(load)
            if say is not None:
                say(
                    f"round {number + 1} of {rounds}, {connections} connections, {name}: "
                    f"{load.rps:.0f} requests/s, p50 {_p50(load):.2f} ms, p99 {_p99(load):.2f} ms"
                )
    return loads


def _point(loads: Sequence[Load]) -> PathPoint:
    return PathPoint(
        rps=_median([load.rps for load in loads], 1),
        p50_ms=_median([_p50(load) for load in loads], 3),
        p99_ms=_median([_p99(load) for load in loads], 3),
    )


def _p50(load: Load) -> float:
    return load.p50_ms or 0.0


def _p99(load: Load) -> float:
    return load.p99_ms or 0.0


def _errors(loads: Mapping[str, Sequence[Load]]) -> int:
    return sum(load.errors for of_rounds in loads.values() for load in of_rounds)


def _median(values: Sequence[float], digits: int) -> float:
    return round(statistics.median(values), digits)
