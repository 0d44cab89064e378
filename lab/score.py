"""The figures of a live replay: what became of the requests, and how the replicas followed the load."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from lab.elasticity import elasticity, have, need
from lab.outcome import FAILED, Outcome, Replay

Floats = NDArray[np.float64]

_GRID_S = 0.1  # of delays: a tenth of the second on which the load changes


class Score(TypedDict):
    """What ``score`` returns; times in the unit that the key names, None where nothing was there to measure.

    sent = answered + shed + failed: every arrival of the schedule up to a stop. client_limited (never left
    the client) and timed_out are part of failed. correct answers / answers = accuracy. Latencies are those of
    answered requests, from the scheduled time; send_lag_p99_ms is the client's own part in them. replicas:
    [t_s, wanted, ready] at each change. scale_out_delay_*: 0.0 where no up-step was late (or none was there:
    see up_steps).
    """

    sent: int
    answered: int
    shed: int
    failed: int
    client_limited: int
    timed_out: int
    accuracy: float | None
    degraded: int
    tiers: dict[str, int]
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    send_lag_p99_ms: float | None
    replicas: list[list[float]]
    scale_out_delay_late_s: float
    scale_out_delay_all_s: float
    up_steps: int
    late_up_steps: int
    unmet_up_steps: int
    waste: float
    theta_u: float
    theta_o: float
    tau_u: float
    tau_o: float
    capacity_rps: float
    load_rps: list[float]
    needed: list[int]


def score(
    result: Replay,
    timeline: Sequence[tuple[float, int, int]],
    rates_rps: Floats,
    *,
    capacity_rps: float,
    min_replicas: int,
    max_replicas: int,
) -> Score:
    """Scores one replay.

    timeline: (t_s, wanted, ready) since the replay's start, at least one entry (one at or before 0 says what
    it started with). rates_rps: float64[seconds], the expected requests in each second
    (``Schedule.rates_rps``: what was needed is a matter of the load, not of one second's luck of the draw).
    capacity_rps: of one replica. need and the measures are defined in ``lab.elasticity``; they are taken on a
    grid of 0.1 s over the seconds of ``rates_rps``. Raises ValueError for an empty timeline or empty rates.
    """
    per_second = need(rates_rps, capacity_rps, min_replicas, max_replicas)
    repeats = round(1 / _GRID_S)
    needed = np.repeat(per_second, repeats)
    grid_s: Floats = np.arange(len(needed), dtype=np.float64) * _GRID_S
    followed = elasticity(needed, have(timeline, grid_s), _GRID_S)
    answered = result.outcome == Outcome.ANSWERED
    count = int(np.sum(answered))
    latency_ms = result.latency_s[answered] * 1e3
    lag_ms = result.lag_s[~np.isnan(result.lag_s)] * 1e3
    return Score(
        sent=len(result.outcome) - result.count(Outcome.UNSENT),
        answered=count,
        shed=result.count(Outcome.SHED),
        failed=result.count(*FAILED),
        client_limited=result.count(Outcome.CLIENT_LIMITED),
        timed_out=result.count(Outcome.TIMED_OUT),
        accuracy=_rounded(float(np.mean(result.correct[answered] == 1)), 4) if count else None,
        degraded=int(np.sum(result.degraded)),
        tiers={name: int(np.sum(result.tier == index)) for index, name in enumerate(result.tiers)},
        p50_ms=_percentile(latency_ms, 50),
        p95_ms=_percentile(latency_ms, 95),
        p99_ms=_percentile(latency_ms, 99),
        send_lag_p99_ms=_percentile(lag_ms, 99),
        replicas=changes(timeline),
        scale_out_delay_late_s=_rounded(followed.scale_out.late_s, 2),
        scale_out_delay_all_s=_rounded(followed.scale_out.all_s, 2),
        up_steps=followed.scale_out.up_steps,
        late_up_steps=followed.scale_out.late,
        unmet_up_steps=followed.scale_out.unmet,
        waste=_rounded(followed.waste, 4),
        theta_u=_rounded(followed.theta_u, 4),
        theta_o=_rounded(followed.theta_o, 4),
        tau_u=_rounded(followed.tau_u, 4),
        tau_o=_rounded(followed.tau_o, 4),
        capacity_rps=_rounded(capacity_rps, 1),
        load_rps=[_rounded(float(rate), 1) for rate in rates_rps],
        needed=per_second.tolist(),
    )


def changes(timeline: Sequence[tuple[float, int, int]]) -> list[list[float]]:
    """The timeline in order of time, without entries that repeat the one before: [[t_s, wanted, ready],
    ...]."""
    kept: list[list[float]] = []
    for t_s, wanted, ready in sorted(timeline, key=lambda entry: entry[0]):
        if not kept or kept[-1][1:] != [wanted, ready]:
            kept.append([_rounded(t_s, 2), wanted, ready])
    return kept


def _percentile(values: Floats, percent: float) -> float | None:
    return _rounded(float(np.percentile(values, percent)), 3) if len(values) else None


def _rounded(value: float, digits: int) -> float:
    return round(value, digits)
