"""What serving a model costs, against the model alone and against other servers, in interleaved rounds: pure logic.

For each tier of a model ours is measured beside the bare model, then beside one rival after the other: no rival is up
while another is measured, for some take CPU even when nobody asks them. Ratios are taken within a round (`rounds.py`).
Who starts servers is the caller's affair: a `Launch` is entered when its server is needed and left after that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict

from lab.bars import Bar, judged
from lab.closed_loop import Load, LoadRunner, Target
from lab.rounds import (
    CONNECTIONS,
    Broken,
    Point,
    Run,
    Say,
    added,
    at_targets,
    check_rounds,
    errors,
    interleave,
    median,
    p50,
    point,
    ratios,
)

OURS, BARE, ANY_BATCH = "ours", "bare", "bare, any batch"
_MOST = CONNECTIONS[-1]


class NotStarted(RuntimeError):
    """A server could not be installed or started, or gave no right answer in time."""


class Server(Protocol):
    """A server that answers. ready_s: seconds from its start to its first right answer; accuracy: share of the
    utterances that it gives the label which a person gave them."""

    target: Target
    ready_s: float
    accuracy: float

    def rss_mb(self) -> float:
        """Resident memory of all its processes, 10^6 bytes."""


Launch = Callable[[], AbstractContextManager[Server]]


@dataclass(frozen=True, slots=True)
class Contest:
    """What is compared on one tier. bare: the model alone, as many sentences together as there are connections and the
    card allows; any_batch: as many as there are connections whatever the card says, None where it allows any."""

    bare: Run
    any_batch: Run | None
    ours: Launch
    rivals: Mapping[str, Launch]


class ServerFigures(TypedDict):
    """at: medians by number of connections ("1", "8", "64"); rss_mb: after the load at 64; ready_s, accuracy: of
    ``Server``."""

    at: dict[str, Point]
    rss_mb: float
    ready_s: float
    accuracy: float


class RivalFigures(ServerFigures):
    """ours_times_64: median of the rounds' ratios of throughput at 64 connections, ours to theirs."""

    ours_times_64: float
    ours_times_64_rounds: list[float]


class TierFigures(TypedDict):
    """bare, bare_any_batch: medians by sentences that were under way at once, a percentile is that of a run;
    c64_vs_bare: median of the rounds' ratios of throughput at 64, ours to bare; c1_p50_added_ms: median of the rounds'
    differences at one connection; failed: why a rival has no figures; errors: requests not answered rightly."""

    bare: dict[str, Point]
    bare_any_batch: dict[str, Point] | None
    ours: ServerFigures
    rivals: dict[str, RivalFigures]
    failed: dict[str, str]
    c64_vs_bare: float
    c64_vs_bare_rounds: list[float]
    c1_p50_added_ms: float
    errors: int


BARS = (
    Bar("tiny_c64_vs_bare", "tiny, 64 connections: requests/s against bare", 0.35, True),
    Bar("tiny_c64_vs_best_rival", "tiny, 64 connections: requests/s against the best rival", 5.0, True),
    Bar("base_c64_vs_bare", "base, 64 connections: requests/s against bare", 0.80, True),
    Bar("tiny_c1_p50_added_ms", "tiny, 1 connection: p50 beyond a bare run, ms", 0.4, False),
    Bar("base_c1_p50_added_ms", "base, 1 connection: p50 beyond a bare run, ms", 0.4, False),
    Bar("tiny_ready_s", "tiny: start to first answer, s", 1.0, False),
    Bar("base_ready_s", "base: start to first answer, s", 1.0, False),
    Bar("tiny_rss_mb", "tiny: resident memory after the load, MB", 80.0, False),
)


def bench_tier(
    contest: Contest,
    run: LoadRunner,
    *,
    rounds: int = 9,
    seconds: float = 1.0,
    warmup_s: float = 0.3,
    say: Say | None = None,
) -> TierFigures:
    """Ours against bare, then against each rival, at 1, 8 and 64 connections.

    A rival that doesn't start or breaks is told of in ``failed`` and left out. Raises NotStarted where ours doesn't
    start, LoadFailed where ours or bare breaks or the load generator can't run, ValueError for fewer than one round.
    """
    check_rounds(rounds)

    def measured(runs: Mapping[str, Run]) -> dict[int, dict[str, list[Load]]]:
        return {
            n: interleave(runs, n, rounds=rounds, seconds=seconds, warmup_s=warmup_s, say=say)
            for n in CONNECTIONS
        }

    failed: dict[str, str] = {}
    rivals: dict[str, RivalFigures] = {}
    with contest.ours() as ours:
        runs = at_targets({OURS: ours.target}, run)
        bare = {BARE: contest.bare} | ({ANY_BATCH: contest.any_batch} if contest.any_batch else {})
        loads = measured(runs | bare)
        wrong = sum(errors(of_runs) for of_runs in loads.values())
        against_bare = ratios(loads[_MOST][OURS], loads[_MOST][BARE])
        figures = _server(ours, loads, OURS)
        for name, launch in contest.rivals.items():
            try:
                with launch() as rival:
                    beside = measured(runs | at_targets({name: rival.target}, run))
                    times = ratios(beside[_MOST][OURS], beside[_MOST][name])
                    rivals[name] = RivalFigures(
                        **_server(rival, beside, name),
                        ours_times_64=median(times, 2),
                        ours_times_64_rounds=[round(ratio, 2) for ratio in times],
                    )
            except NotStarted as error:
                failed[name] = str(error)
            except Broken as error:
                if error.name != name:
                    raise
                failed[name] = str(error)
            else:
                wrong += sum(errors(of_runs) for of_runs in beside.values())
            if name in failed and say is not None:
                say(f"{name} is left out: {failed[name]}")
    return TierFigures(
        bare=_points(loads, BARE),
        bare_any_batch=_points(loads, ANY_BATCH) if contest.any_batch else None,
        ours=figures,
        rivals=rivals,
        failed=failed,
        c64_vs_bare=median(against_bare, 3),
        c64_vs_bare_rounds=[round(ratio, 3) for ratio in against_bare],
        c1_p50_added_ms=added(loads[1][OURS], loads[1][BARE], p50),
        errors=wrong,
    )


def report(tiers: Mapping[str, TierFigures]) -> dict[str, Any]:
    """The JSON document: bare, ours and rivals by tier, the figures that have a bar, the bars beside them."""
    told: dict[str, Any] = {
        "bare": {tier: of_tier["bare"] for tier, of_tier in tiers.items()},
        "bare_any_batch": {
            tier: of_tier["bare_any_batch"] for tier, of_tier in tiers.items() if of_tier["bare_any_batch"]
        },
        "ours": {tier: of_tier["ours"] for tier, of_tier in tiers.items()},
        "rivals": {},
        "failed": {},
    }
    for tier, of_tier in tiers.items():
        for name, figures in of_tier["rivals"].items():
            told["rivals"].setdefault(name, {})[tier] = figures
        for name, why in of_tier["failed"].items():
            told["failed"][name] = f"{tier}: {why}"
        told[f"{tier}_c64_vs_bare"] = of_tier["c64_vs_bare"]
        told[f"{tier}_c64_vs_bare_rounds"] = of_tier["c64_vs_bare_rounds"]
        if best := best_rival(of_tier):
            told[f"{tier}_best_rival"] = best
            told[f"{tier}_c64_vs_best_rival"] = of_tier["rivals"][best]["ours_times_64"]
        told[f"{tier}_c1_p50_added_ms"] = of_tier["c1_p50_added_ms"]
        told[f"{tier}_ready_s"] = of_tier["ours"]["ready_s"]
        told[f"{tier}_rss_mb"] = of_tier["ours"]["rss_mb"]
    told["bars"] = judged(BARS, told)
    told["errors"] = sum(of_tier["errors"] for of_tier in tiers.values())
    return told


def best_rival(figures: TierFigures) -> str | None:
    """The rival that ours is ahead of by least at 64 connections; None where none was measured."""
    return min(figures["rivals"], key=lambda name: figures["rivals"][name]["ours_times_64"], default=None)


def _server(server: Server, loads: Mapping[int, Mapping[str, list[Load]]], name: str) -> ServerFigures:
    return ServerFigures(
        at=_points(loads, name),
        rss_mb=round(server.rss_mb(), 1),
        ready_s=round(server.ready_s, 3),
        accuracy=round(server.accuracy, 4),
    )


def _points(loads: Mapping[int, Mapping[str, list[Load]]], name: str) -> dict[str, Point]:
    return {str(connections): point(of_runs[name]) for connections, of_runs in loads.items()}
