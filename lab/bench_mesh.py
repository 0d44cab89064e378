"""What a Dapr hop and the whole mesh cost, in interleaved rounds: pure logic over a load generator.

Why rounds, and how they go: `rounds.py`. Who starts the meshes and knows their addresses is the caller's affair; all
targets must be up at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

from lab import rounds as in_rounds
from lab.closed_loop import Load, LoadRunner, Target
from lab.rounds import Point, Say, median, p50, p99

_HOP_CONNECTIONS = 32


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


class PathFigures(TypedDict):
    """path: the mesh as it is; mtls_off_path: without mTLS; direct_path: the same services without sidecars,
    each by number of connections ("1", "8", "64"); mesh_to_direct_64: median of the rounds' ratios of
    throughput at 64 connections; mesh_to_direct_64_rounds: those ratios; errors: over all rounds."""

    path: dict[str, Point]
    mtls_off_path: dict[str, Point]
    direct_path: dict[str, Point]
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
    in_rounds.check_rounds(rounds)
    targets = {"direct": direct, "one hop": hop}
    other = "one hop, installed daprd"
    if installed is not None:
        targets[other] = installed
    runs = in_rounds.at_targets(targets, run)
    one, many = (
        in_rounds.interleave(runs, connections, rounds=rounds, seconds=seconds, warmup_s=warmup_s, say=say)
        for connections in (1, _HOP_CONNECTIONS)
    )

    def added(name: str, at: Callable[[Load], float]) -> float:
        return in_rounds.added(one[name], one["direct"], at)

    def rps(name: str) -> float:
        return median([load.rps for load in many[name]], 1)

    return HopFigures(
        hop_added_p50_ms=added("one hop", p50),
        hop_added_p99_ms=added("one hop", p99),
        hop_rps_32=rps("one hop"),
        direct_rps_32=rps("direct"),
        installed_hop_added_p50_ms=added(other, p50) if other in targets else None,
        installed_hop_rps_32=rps(other) if other in targets else None,
        errors=in_rounds.errors(one) + in_rounds.errors(many),
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
    in_rounds.check_rounds(rounds)
    targets = {"mesh": mesh, "mTLS off": mtls_off, "direct": direct}
    runs = in_rounds.at_targets(targets, run)
    points: dict[str, dict[str, Point]] = {name: {} for name in targets}
    ratios: list[float] = []
    errors = 0
    for connections in in_rounds.CONNECTIONS:
        loads = in_rounds.interleave(
            runs, connections, rounds=rounds, seconds=seconds, warmup_s=warmup_s, say=say
        )
        errors += in_rounds.errors(loads)
        for name, of_rounds in loads.items():
            points[name][str(connections)] = in_rounds.point(of_rounds)
        ratios = in_rounds.ratios(loads["mesh"], loads["direct"])
    return PathFigures(
        path=points["mesh"],
        mtls_off_path=points["mTLS off"],
        direct_path=points["direct"],
        mesh_to_direct_64=median(ratios, 3),
        mesh_to_direct_64_rounds=[round(ratio, 3) for ratio in ratios],
        errors=errors,
    )
