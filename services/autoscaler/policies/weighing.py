"""What `predictive` weighs at a tick: the load to come, the last seconds, a backlog, measured CPU and the SLO.

Arithmetic only, on one record and numbers, so that the lab can compile what runs as plain Python live
(lab/compiled.py). What is observed goes in and what is said with a decision comes out: predictive.py.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.autoscaler.policies import descent, outlook, queueing, reactive, yardstick
from services.autoscaler.policies.newsvendor import quantile_of

Floats = NDArray[np.float64]

Rates = tuple[float, float, float, float, float]
Replicas = tuple[int, int, int, int, int]
Said = tuple[float, float, float, float, float, float]

LATE_START = 1.1
"""Times the measured start delay that is looked ahead: starts jitter."""

CONFIRMED_BEYOND_TICKS = 5
"""A lead of more ticks than this has time for a second look before more is ordered."""

BLIND_UTILISATION = 0.7
"""Share of the capacity to use without a forecast: the headroom that HPA and KPA keep."""

_HOT = 1.1  # HPA's tolerance above the target, here for the measured CPU
_HOT_TICKS = 2

STATE = np.dtype(
    [
        ("tick_s", "f8"),  # between two calls
        ("target", "f8"),  # share of the capacity to use
        ("slo_s", "f8"),  # that a request may take
        ("longest_pause_s", "f8"),  # between two ticks of one hold
        ("finds_price", "i8"),  # whether the price is found or given
        # What was expected at the lead at the last tick: a quantile of the load, and its middle; NaN before.
        ("high_rps", "f8"),
        ("rate_rps", "f8"),
        ("hot_ticks", "i8"),  # for how many the replicas have been hot
        ("outlook", outlook.LEARNED),
        ("burstiness", queueing.BURSTINESS),
        ("yardstick", yardstick.TOTALS),
        ("held", descent.HELD),
    ]
)
"""All that `predictive` knows."""

NOTHING, FORECAST, RECENT, BURST, BACKLOG, CPU, SLO = range(7)
"""What asks for most."""

AS_NEEDED, OUTAGE, UNKNOWN = range(10, 13)
"""What became of it, where it is none of the reasons of the way down (descent.py)."""

_UNKNOWN = (math.nan, math.nan)
_UNSAID = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def prepared(
    *, tick_s: float, target: float, slo_s: float, longest_pause_s: float, price: float | None
) -> NDArray[np.void]:
    """A state in which nothing is known, of one record. price: None where it is to be found. Raises ValueError for one
    that is none."""
    states = np.zeros(1, dtype=STATE)
    state = states[0]
    state["tick_s"], state["target"], state["slo_s"] = tick_s, target, slo_s
    state["longest_pause_s"], state["finds_price"] = longest_pause_s, price is None
    state["high_rps"] = state["rate_rps"] = state["burstiness"]["last"] = math.nan
    prices = yardstick.LADDER if price is None else (price,)
    outlook.prepare(state["outlook"], tuple(map(quantile_of, prices)))
    if price is None:
        yardstick.prepare(state["yardstick"])
    else:
        state["yardstick"]["price"] = price
    return states


def weigh(
    states: Any,
    told: Floats,
    now: float,
    seconds: float,
    rates_rps: Rates,
    age_s: float,
    start_delay_s: float,
    capacity_rps: float,
    strain: tuple[float, float, float],
    replicas: Replicas,
    flags: tuple[bool, bool],
) -> tuple[
    tuple[int, int, int, int, int],
    tuple[float, float],
    Said,
    tuple[int, int],
]:
    """One tick. What is not known is NaN; rates are requests per second.

    told: the forecast (outlook.told). seconds: since the last tick. rates_rps: of those seconds, of the last
    outlook.OUTCOME_S, of as many as are worth an order, of a burst beyond chance, of the last yardstick.JUDGED_S.
    age_s: of the forecast, NaN where it is not to be used. capacity_rps: of one replica. strain: requests that wait;
    the share of one replica's CPU that all of them use; the mean share of theirs where all are measured and none
    starts. replicas: wanted so far, ready, fewest, most, and those that HPA would have ready. flags: whether the metric
    is dead, and whether any load was heard so far.

    Returns what became of it, the replicas from now on, what asks for most and for how many, and how often a price was
    chosen; the load that is provided for, and that of the forecast; what the reason says; the highest need of the hold,
    and how many replicas carry the CPU that is used.
    """
    state = states[0]
    held, target = state["held"], float(state["target"])
    waiting, cpu, hotness = strain
    wanted, ready, fewest, most, _ = replicas
    _, _, recent_rps, burst_rps, _ = rates_rps
    outage, heard = flags
    known = not math.isnan(capacity_rps)
    hear(state, now, seconds, rates_rps, capacity_rps)
    hot = heat(state, ready, hotness, known and waiting < ready)
    if outage:
        descent.forget(held)
        return (OUTAGE, wanted, NOTHING, 0, 0), _UNKNOWN, _UNSAID, (0, 0)
    lead_s = LATE_START * start_delay_s + float(state["tick_s"])
    blind = math.isnan(age_s)
    top, demand, ahead_rps, expected_rps, why, values = 0.0, math.nan, math.nan, math.nan, NOTHING, _UNSAID
    if known and heard and not blind:
        each = capacity_rps * target
        price = look(state, told, now, age_s, lead_s, rates_rps, each, capacity_rps, replicas)
        top, demand, expected_rps, values = ahead(state, lead_s, each, wanted, price)
        ahead_rps, why = demand, FORECAST
    if known and not math.isnan(recent_rps):
        share = min(target, BLIND_UTILISATION) if blind else target
        least, load, what = reactive.floor(recent_rps, burst_rps, waiting, capacity_rps, share, lead_s)
        if why == NOTHING or least > top:
            top, demand, why = least, load, RECENT + what
            values = (load, capacity_rps * share, share * 100, reactive.drain_s(lead_s), 0.0, 0.0)
    if hot > 0.0 and (why == NOTHING or hot > top):
        # The CPU's share says how hot the replicas are and not how much load there is.
        top, why, values = hot, CPU, (hotness * 100, target * 100, 0.0, 0.0, 0.0, 0.0)
    if why == NOTHING:
        descent.forget(held)
        return (UNKNOWN, wanted, NOTHING, 0, 0), _UNKNOWN, _UNSAID, (0, 0)
    asked = math.ceil(top - 1e-9)
    if asked >= 1 and not math.isnan(expected_rps):
        variance = queueing.variance_of(state["burstiness"])
        kept = queueing.replicas_for(expected_rps, capacity_rps, state["slo_s"], variance, asked, most)
        if kept > asked:
            asked, why, values = kept, SLO, (expected_rps, variance, 0.0, 0.0, 0.0, 0.0)
    need = min(max(asked, fewest), most)
    descent.remember(held, now, need, state["longest_pause_s"])
    how, count, highest, carrying = AS_NEEDED, asked, need, 0
    if need < wanted:
        count, how, highest, carrying = descent.step(held, now, need, wanted, cpu, target)
    choices = state["yardstick"]["choices"]
    return (how, count, why, asked, int(choices)), (demand, ahead_rps), values, (highest, carrying)


def hear(
    state: Any,
    now: float,
    seconds: float,
    rates_rps: Rates,
    capacity_rps: float,
) -> None:
    """Take in the seconds since the last tick."""
    rate_rps, outcome_rps, _, _, _ = rates_rps
    if not math.isnan(rate_rps):
        least_rps = outlook.LEAST_RPS if math.isnan(capacity_rps) else capacity_rps
        outlook.advance(state["outlook"], now, seconds, rate_rps, outcome_rps, least_rps)
    queueing.hear(state["burstiness"], rate_rps, state["tick_s"])


def heat(state: Any, ready: int, hotness: float, calm: bool) -> float:
    """Replicas that the measured CPU asks for after two ticks above the target while requests wait, 0 for none: the
    capacity was overrated. A server that batches uses all of its CPU long before it is full, so that alone says little.
    """
    if calm or math.isnan(hotness) or hotness <= state["target"] * _HOT:
        state["hot_ticks"] = 0
        return 0.0
    state["hot_ticks"] += 1
    return float(ready * hotness / state["target"]) if state["hot_ticks"] >= _HOT_TICKS else 0.0


def look(
    state: Any,
    told: Floats,
    now: float,
    age_s: float,
    lead_s: float,
    rates_rps: Rates,
    each_rps: float,
    capacity_rps: float,
    replicas: Replicas,
) -> float:
    """Say what is expected, and judge the prices by it where they are to be found; returns the price that was used."""
    learned, judged = state["outlook"], state["yardstick"]
    _, _, recent_rps, burst_rps, judged_rps = rates_rps
    _, _, fewest, most, hpa_ready = replicas
    place, price = judged["place"], judged["price"]
    sampled = outlook.expect(learned, told, now, age_s, state["tick_s"], lead_s, place, capacity_rps)
    if state["finds_price"]:
        yardstick.hear(judged, now, hpa_ready)
        if sampled:
            floor_rps = 0.0 if math.isnan(recent_rps) else max(recent_rps, burst_rps)
            all_rps = learned["all_rps"]
            yardstick.judge(judged, now, all_rps, floor_rps, each_rps, lead_s, fewest, most, judged_rps)
    return float(price)


def ahead(
    state: Any, lead_s: float, each_rps: float, wanted: int, price: float
) -> tuple[float, float, float, Said]:
    """What the load to come asks for: replicas, the load that they provide for, what is expected at the lead as far as
    it is worth an order, and what the reason says."""
    learned = state["outlook"]
    high, rates = learned["high_rps"], learned["rates_rps"]
    last = outlook.HORIZONS - 1
    before_rps, before_rate = state["high_rps"], state["rate_rps"]
    high_rps, rate = high[last], rates[last]
    state["high_rps"], state["rate_rps"] = high_rps, rate
    # Where there is time for a second look, no more than was expected at the last tick.
    if lead_s > CONFIRMED_BEYOND_TICKS * state["tick_s"] and (
        before_rps < high_rps or (before_rps == high_rps and before_rate < rate)
    ):
        high_rps, rate = before_rps, before_rate
    top, at, kept_rps = high_rps / each_rps, last, high_rps
    for horizon in range(last, -1, -1):
        if high[horizon] >= kept_rps and high[horizon] > high_rps:
            kept_rps, at = high[horizon], horizon
    expected_rps, ahead_s = rate, lead_s
    if kept_rps > high_rps:
        # What is needed before a replica ordered now would serve is a reason to keep, and none to order.
        top = max(top, min(kept_rps / each_rps, float(wanted)))
        rate, ahead_s = rates[at], learned["ahead_s"][at]
    said = (float(rate), float(ahead_s), price, float(kept_rps), each_rps, float(state["target"] * 100))
    return float(top), float(kept_rps), float(expected_rps), said


KERNELS = ("hear", "heat", "look", "ahead", "weigh")
"""What may be compiled, each after what it calls."""
