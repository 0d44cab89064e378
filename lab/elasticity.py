"""How well replicas followed the load: pure arithmetic over two arrays, for live runs and simulated ones
alike.

The measures of SPEC RG Cloud (Herbst et al., "Ready for Rain? A View from SPEC Research on the Future of
Cloud Metrics", 2016) plus waste and scale-out delay. All arrays are on one even grid of ``dt_s`` seconds:
``need[i]`` replicas would have done, ``have[i]`` were ready.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ScaleOut:
    """Delays of the up-steps of a run.

    late_s: mean over those that were late; all_s: mean over all; both 0.0 over none. up_steps, late: how
    many. unmet: those late ones whose need fell again (or the run ended) before the replicas were there:
    their delay says how long the shortage lasted, not how long scaling took.
    """

    late_s: float
    all_s: float
    up_steps: int
    late: int
    unmet: int


@dataclass(frozen=True, slots=True)
class Elasticity:
    """Shares (0..1) over a run; see ``elasticity`` for the formulas."""

    theta_u: float
    theta_o: float
    tau_u: float
    tau_o: float
    waste: float
    scale_out: ScaleOut


def need(rate_rps: Floats, capacity_rps: float, minimum: int, maximum: int) -> Counts:
    """Replicas that the load needs: need(t) = min(max(ceil(rate(t) / capacity), minimum), maximum).

    rate_rps: float64[n], requests per second. capacity_rps: what one replica can take while it keeps its
    promise on latency. A rate that exceeds a whole number of replicas by rounding error alone needs no
    further one. Raises ValueError for a capacity that isn't positive or minimum > maximum.
    """
    if not capacity_rps > 0:
        raise ValueError(f"capacity {capacity_rps:g} requests per second per replica isn't positive")
    if minimum > maximum:
        raise ValueError(f"minimum of {minimum} replicas exceeds the maximum of {maximum}")
    replicas = np.ceil(rate_rps / capacity_rps - 1e-9)
    clamped: Counts = np.clip(replicas, minimum, maximum).astype(np.int64)
    return clamped


def have(timeline: Sequence[tuple[float, int, int]], grid_s: Floats) -> Counts:
    """Ready replicas at each time of ``grid_s``: have(t) = ready of the last entry (t_s, wanted, ready) with
    t_s <= t; before the first entry, the first one's. int64[n]. Raises ValueError for an empty timeline."""
    if not timeline:
        raise ValueError("the replica timeline is empty: nothing observed the replicas")
    entries = sorted(timeline, key=lambda entry: entry[0])
    times = np.asarray([entry[0] for entry in entries], dtype=np.float64)
    ready = np.asarray([entry[2] for entry in entries], dtype=np.int64)
    last = np.searchsorted(times, grid_s + 1e-9, side="right") - 1
    held: Counts = ready[np.maximum(last, 0)]
    return held


def scale_out(need: Counts, have: Counts, dt_s: float) -> ScaleOut:
    """Delay of each up-step, averaged.

    An up-step is a grid point i with need[i] > need[i-1]. Its delay is 0 if have[i] >= need[i]; else the time
    to the first j > i with have[j] >= need[i] (it was met) or need[j] < need[i] (it passed, unmet), or to the
    end of the run (unmet). late = mean over delays > 0, all = mean over every up-step.
    """
    delays: list[float] = []
    unmet = 0
    for i in (np.flatnonzero(np.diff(need) > 0) + 1).tolist():
        level = int(need[i])
        if have[i] >= level:
            delays.append(0.0)
            continue
        end = _first(have, need, level, i)
        if end == len(need) or have[end] < level:
            unmet += 1
        delays.append((end - i) * dt_s)
    late = [delay for delay in delays if delay > 0]
    return ScaleOut(
        late_s=sum(late) / len(late) if late else 0.0,
        all_s=sum(delays) / len(delays) if delays else 0.0,
        up_steps=len(delays),
        late=len(late),
        unmet=unmet,
    )


def _first(have: Counts, need: Counts, level: int, start: int) -> int:
    """First index from ``start`` on at which ``level`` is had or no longer needed, else len; searched in
    chunks that double, so that a long trace isn't scanned to its end for each up-step."""
    chunk = 64
    while start < len(need):
        part = slice(start, start + chunk)
        hits = np.flatnonzero((have[part] >= level) | (need[part] < level))
        if len(hits):
            return start + int(hits[0])
        start += chunk
        chunk *= 2
    return len(need)


def elasticity(need: Counts, have: Counts, dt_s: float) -> Elasticity:
    """The measures of one run; need, have: int64[n], n >= 1, on a grid of ``dt_s`` seconds.

    theta_U = mean(max(need - have, 0) / need), theta_O = mean(max(have - need, 0) / need), both over the
    times with need > 0; tau_U = share of time with have < need, tau_O = share with have > need; waste =
    sum(max(have - need, 0)) / sum(have), 0 where nothing was had. Raises ValueError for arrays that are empty
    or differ in length.
    """
    if len(need) != len(have) or not len(need):
        raise ValueError(f"need has {len(need)} entries and have {len(have)}: they must be equal and not 0")
    over = np.maximum(have - need, 0)
    under = np.maximum(need - have, 0)
    needed = need > 0
    total = int(np.sum(have))
    return Elasticity(
        theta_u=float(np.mean(under[needed] / need[needed])) if np.any(needed) else 0.0,
        theta_o=float(np.mean(over[needed] / need[needed])) if np.any(needed) else 0.0,
        tau_u=float(np.mean(under > 0)),
        tau_o=float(np.mean(over > 0)),
        waste=float(np.sum(over)) / total if total else 0.0,
        scale_out=scale_out(need, have, dt_s),
    )
