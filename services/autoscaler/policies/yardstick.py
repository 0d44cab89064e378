"""The price that beats Kubernetes' default on this very load: what HPA would have wasted and missed here, and what we
would have at each of a ladder of prices.

Arrivals don't depend on how many replicas there are, so every policy can be lived through on paper. `judge` works on
arrays alone, so that the lab can compile what runs as plain Python live (lab/compiled.py).
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from services.autoscaler.observation import Observation
from services.autoscaler.policies.behaviour import SYNC_S
from services.autoscaler.policies.descent import HOLD_S
from services.autoscaler.policies.hpa import Hpa

Floats = NDArray[np.float64]

LADDER = (1.0, 3.0, 9.0, 19.0, 49.0, 130.0, 499.0, 1999.0)
"""Prices that are lived through; between two of them a third is had by mixing what they ask for."""

_LOGARITHMS = np.log(LADDER)

FIRST_PRICE = 19.0
"""Until enough was seen: at a higher one, a single jump in the first minutes keeps replicas for all of them."""

FEWEST = 100
"""Samples before the price is chosen: ten minutes."""

CHOOSE_EVERY = 10
"""Samples between two looks at which price it should be: a minute."""

MEMORY = 600.0
"""Samples after which one counts 1/e: an hour."""

MISSES = 0.25
"""Of the time in which HPA would have had too few: how much is aimed at."""

WASTE = 0.95
"""Of what HPA would have wasted: what that may cost at most."""

LEAST_SHORT = 1e-6
"""Shares of time below this are none."""

JUDGED_S = 20
"""Seconds over which the load is taken that replicas were needed for; in their middle they are counted."""

_KEPT = 512  # samples of what was wanted on paper: as many as may be under way


_TICKS = 128  # of HPA's: as many as half of JUDGED_S may have

_PRICES = len(LADDER)

TOTALS = np.dtype(
    [
        # Fading sums over samples, for each price and last for HPA: with too few, replicas too many, replicas.
        ("short", "f8", _PRICES + 1),
        ("over", "f8", _PRICES + 1),
        ("had", "f8", _PRICES + 1),
        ("weight", "f8"),  # the same sum of 1
        ("taken", "i8"),  # samples
        ("judged", "i8"),  # samples
        # Rings of the last samples: when, and what each price needed and wanted then.
        ("times", "f8", _KEPT),
        ("needed", "f8", (_PRICES, _KEPT)),
        ("wanted", "f8", (_PRICES, _KEPT)),
        # The same of the last ticks: when, and what HPA had ready.
        ("ticks", "i8"),
        ("tick_times", "f8", _TICKS),
        ("hpa_ready", "i8", _TICKS),
        # Where on the ladder the price is that is to be used, 2.5 half way between its third and fourth, and which.
        ("place", "f8"),
        ("price", "f8"),
        ("choices", "i8"),  # that were made of it
        # At that price the share of time with too few and of replicas too many, and the same of HPA; zeros until
        # enough was seen.
        ("shares", "f8", 4),
    ]
)
"""What was lived through, and what is made of it."""


class Shadow:
    """HPA at its default, lived through on paper: what it would have ready."""

    def __init__(self) -> None:
        self._hpa = Hpa()
        self._wanted: int | None = None
        self._starting: deque[float] = deque()  # when each will be ready
        self._synced = -math.inf

    def live(self, observation: Observation, start_delay_s: float) -> int:
        """Go on to this tick; it decides at its syncs and not in between. Returns what it would have ready."""
        now, starting = observation.now, self._starting
        if self._wanted is None:
            self._wanted = max(1, observation.wanted)
        while starting and starting[0] <= now:
            starting.popleft()
        if not 0 <= now - self._synced < SYNC_S:
            self._synced = now
            self._sync(observation, start_delay_s)
        return self._wanted - len(starting)

    def _sync(self, observation: Observation, start_delay_s: float) -> None:
        rate, capacity, wanted = observation.rate(round(SYNC_S)), observation.capacity_rps, self._wanted
        if rate is None or capacity is None or wanted is None:
            return
        ready = wanted - len(self._starting)
        busy = min(1.0, rate / (max(1, ready) * capacity))
        seen = replace(
            observation, wanted=wanted, ready=ready, starting=len(self._starting), draining=0,
            utilisation=(busy,) * ready,
        )  # fmt: skip
        self._wanted = self._hpa.decide(seen).wanted
        for _ in range(self._wanted - wanted):
            self._starting.append(observation.now + start_delay_s)
        for _ in range(min(len(self._starting), wanted - self._wanted)):
            self._starting.pop()


def prepare(totals: Any) -> None:
    """Make a record of zeros one of nothing seen."""
    totals["times"][:] = -math.inf
    totals["place"] = np.interp(math.log(FIRST_PRICE), _LOGARITHMS, np.arange(_PRICES))
    totals["price"] = math.exp(at_place(_LOGARITHMS, totals["place"]))


def at_place(values: Floats, place: float) -> float:
    """What lies between the values of two prices; 2.5 is half way from the third to the fourth."""
    low = min(int(place), _PRICES - 2)
    return float(values[low] + (place - low) * (values[low + 1] - values[low]))


def hear(totals: Any, now: float, hpa_ready: int) -> None:
    """Note what HPA would have ready now."""
    at = totals["ticks"] % _TICKS
    totals["tick_times"][at], totals["hpa_ready"][at] = now, hpa_ready
    totals["ticks"] += 1


def hpa_ready_at(totals: Any, then: float) -> int:
    """What HPA had ready at a time of the last while."""
    ready = 0
    for back in range(1, min(totals["ticks"], _TICKS) + 1):
        at = (totals["ticks"] - back) % _TICKS
        ready = totals["hpa_ready"][at]
        if totals["tick_times"][at] <= then:
            break
    return ready


def choose(totals: Any) -> None:
    """Choose the price that is to be used from now on, and note how it stands against HPA."""
    short, waste = np.zeros(_PRICES + 1), np.zeros(_PRICES + 1)
    for k in range(_PRICES + 1):
        short[k] = totals["short"][k] / totals["weight"]
        waste[k] = totals["over"][k] / max(totals["had"][k], 1.0)
    place = chosen(short, waste)
    totals["place"], totals["price"] = place, math.exp(at_place(_LOGARITHMS, place))
    totals["choices"] += 1
    shares = totals["shares"]
    shares[0], shares[1] = at_place(short, place), at_place(waste, place)
    shares[2], shares[3] = short[_PRICES], waste[_PRICES]


def judge(
    totals: Any,
    now: float,
    high_rps: Floats,
    floor_rps: float,
    each_rps: float,
    lead_s: float,
    fewest: int,
    most: int,
    rate_rps: float,
) -> None:
    """Note what each price asks for now, judge what it asked for a lead ago by what is needed by now, and choose the
    price anew from time to time.

    high_rps: float64[price, instant] as the outlook has it for the ladder. floor_rps: what the last seconds ask for,
    whatever the price. each_rps: what a replica is given. fewest, most: replicas. rate_rps: of the last JUDGED_S, NaN
    where it is not known. What is ready at a time is the least that was wanted since a lead before it: who is let go in
    between is not there.
    """
    times, wanted, taken = totals["times"], totals["wanted"], totals["taken"]
    at = taken % _KEPT
    times[at] = now
    for k in range(_PRICES):
        needs = totals["needed"][k]
        before = wanted[k, (taken - 1) % _KEPT] if taken else 0.0
        kept = max(high_rps[k, 0], high_rps[k, 1], high_rps[k, 2]) / each_rps
        asked = max(max(high_rps[k, 2], floor_rps) / each_rps, min(kept, before))
        need = float(min(max(math.ceil(asked - 1e-9), fewest), most))
        needs[at] = need
        for back in range(1, min(taken, 8)):
            if times[(taken - back) % _KEPT] < now - HOLD_S:
                break
            need = max(need, min(before, needs[(taken - back) % _KEPT]))
        wanted[k, at] = need
    totals["taken"] = taken + 1
    middle = now - JUDGED_S / 2
    first = taken
    while first > max(0, taken - _KEPT + 2) and times[first % _KEPT] > middle - lead_s:
        first -= 1
    if times[first % _KEPT] > middle - lead_s or math.isnan(rate_rps):
        return
    keep, hpa_ready = 1.0 - 1.0 / MEMORY, hpa_ready_at(totals, middle)
    needed = float(min(max(math.ceil(rate_rps / each_rps - 1e-9), fewest), most))
    for k in range(_PRICES + 1):
        had = float(hpa_ready)
        if k < _PRICES:
            had = math.inf
            for i in range(first, taken + 1):
                if times[i % _KEPT] > middle:
                    break
                had = min(had, wanted[k, i % _KEPT])
        totals["short"][k] = keep * totals["short"][k] + (1.0 if had < needed else 0.0)
        totals["over"][k] = keep * totals["over"][k] + max(had - needed, 0.0)
        totals["had"][k] = keep * totals["had"][k] + had
    totals["weight"] = keep * totals["weight"] + 1.0
    totals["judged"] += 1
    if totals["judged"] >= FEWEST and totals["judged"] % CHOOSE_EVERY == 0:
        choose(totals)


def chosen(short: Floats, waste: Floats) -> float:
    """The place on the ladder, 2.5 between the third and the fourth price: the lowest price at which no more than
    MISSES of HPA's time is missed, and none at which more than WASTE of HPA's waste is wasted.

    short, waste: shares, for each price and last for HPA.
    """
    budget, goal = WASTE * waste[_PRICES], MISSES * short[_PRICES]
    for k in range(_PRICES):
        if waste[k] > budget:
            if k == 0:
                return 0.0
            within = (budget - waste[k - 1]) / (waste[k] - waste[k - 1])
            return k - 1 + min(max(float(within), 0.0), 1.0)
        if short[k] <= goal:
            if k == 0 or short[k - 1] <= max(goal, LEAST_SHORT):
                return float(k)
            # Misses fall by about the same factor from one price to the next, so in between by their logarithms.
            least, aim = max(short[k], LEAST_SHORT), max(goal, LEAST_SHORT)
            return (
                k if aim <= least else k - 1 + math.log(short[k - 1] / aim) / math.log(short[k - 1] / least)
            )
    return float(_PRICES - 1)


KERNELS = ("at_place", "hear", "hpa_ready_at", "chosen", "choose", "judge")
"""What may be compiled, each after what it calls."""
