"""From a simulated run to the figures of its row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.elasticity import elasticity, need
from lab.load import Load
from lab.queueing import ANSWERED, BIN_S, LATE, SHED, Ints
from lab.server import Server
from lab.simulator import Bounds, Run

FIGURES = (
    "theta_u", "theta_o", "tau_u", "tau_o", "waste", "pod_hours", "churn", "scale_out_delay_late_s",
    "scale_out_delay_all_s", "p50_ms", "p95_ms", "p99_ms", "slo_violation",
)  # fmt: skip
"""What a row holds besides what was run. theta, tau, waste, scale-out delays: lab.elasticity, on a grid of one second
from ready replicas. pod_hours: of all replicas that exist, starting and draining ones included. churn: replicas ordered
and let go, an hour. Percentiles: of the latency of answered requests, None when none was. slo_violation: share of
requests that were shed or took longer than the SLO."""


HOURS = "hours"
"""Key of a row: for each hour begun, what the shares below are made of, so that hours can be drawn anew.

Seconds, seconds with too few, replica-seconds too many, replica-seconds had, requests shed or late, requests."""

SHARES = {"tau_u": (1, 0), "waste": (2, 3), "slo_violation": (4, 5)}
"""Figures that are a ratio of two of those sums, by their places."""


def needed(load: Load, server: Server, bounds: Bounds) -> Ints:
    """Replicas that would have done in each second: int64[n]; see lab.elasticity.need."""
    return need(load.rates_rps, server.planned_rps, bounds.least, bounds.most)


def measure(run: Run, load: Load, server: Server, bounds: Bounds) -> dict[str, Any]:
    """The FIGURES of a run, rounded to what they are worth."""
    need = needed(load, server, bounds)
    followed = elasticity(need, run.ready.astype(np.int64), 1.0)
    hours = len(run.ready) / 3600
    answered, shed, late = (
        float(run.series[:, column].sum(dtype=np.float64)) for column in (ANSWERED, SHED, LATE)
    )
    sent = answered + shed
    p50, p95, p99 = (percentile_ms(run.histogram, percent) for percent in (50, 95, 99))
    return {
        "theta_u": round(followed.theta_u, 6),
        "theta_o": round(followed.theta_o, 6),
        "tau_u": round(followed.tau_u, 6),
        "tau_o": round(followed.tau_o, 6),
        "waste": round(followed.waste, 6),
        "pod_hours": round(float(run.pods.sum(dtype=np.int64)) / 3600, 3),
        "churn": round(float(np.abs(np.diff(run.wanted)).sum(dtype=np.int64)) / hours, 3),
        "scale_out_delay_late_s": round(followed.scale_out.late_s, 3),
        "scale_out_delay_all_s": round(followed.scale_out.all_s, 3),
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "slo_violation": round((shed + late) / sent, 6) if sent else 0.0,
        HOURS: _hours(run, need),
    }


def _hours(run: Run, need: Ints) -> list[list[int]]:
    begins = np.arange(0, len(need), 3600)
    sums = [np.add.reduceat(one, begins, dtype=np.float64) for one in _by_second(run, need)]
    return [[round(float(value)) for value in hour] for hour in zip(*sums, strict=True)]


def _by_second(run: Run, need: Ints) -> Iterator[NDArray[Any]]:
    """What hours are summed up of, one after the other: together they would take more memory than the run."""
    have = run.ready
    yield np.ones_like(have)
    yield have < need
    yield np.maximum(have - need, 0)
    yield have
    for column in (LATE, ANSWERED):
        yield run.series[:, SHED].astype(np.float64) + run.series[:, column]


def percentile_ms(histogram: Ints, percent: float) -> float | None:
    """The upper edge, in milliseconds, of the bin that holds the percentile; None for no answers."""
    total = int(histogram.sum())
    if not total:
        return None
    at = int(np.searchsorted(np.cumsum(histogram), total * percent / 100))
    return round((at + 1) * BIN_S * 1e3, 3)
