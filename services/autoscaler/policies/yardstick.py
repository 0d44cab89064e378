"""The price that beats Kubernetes' default on this very load: what HPA would have wasted and missed here, and what we
would have at each of a ladder of prices.

Arrivals don't depend on how many replicas there are, so every policy can be lived through on paper. `weigh` works on
arrays alone, so that the lab can compile what runs as plain Python live (lab/compiled.py).
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from services.autoscaler.decision import Reason
from services.autoscaler.observation import Observation
from services.autoscaler.policies.behaviour import SYNC_S
from services.autoscaler.policies.hpa import Hpa
from services.autoscaler.policies.newsvendor import quantile_of

Floats = NDArray[np.float64]
Record = NDArray[np.void]

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

HOLD_S = 8.0
"""Seconds that `predictive` waits before it lets go, live as on paper."""

JUDGED_S = 20
"""Seconds over which the load is taken that replicas were needed for; in their middle they are counted."""

_KEPT = 512  # samples of what was wanted on paper: as many as may be under way


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
    ]
)
"""What was lived through."""


class Shadow:
    """HPA at its default, lived through on paper: what it would have ready."""

    def __init__(self) -> None:
        self._hpa = Hpa()
        self._wanted: int | None = None
        self._starting: deque[float] = deque()  # when each will be ready
        self._synced = -math.inf
        self._ready: deque[tuple[float, int]] = deque()

    def live(self, observation: Observation, start_delay_s: float) -> None:
        """Go on to this tick; it decides at its syncs and not in between."""
        now, starting = observation.now, self._starting
        if self._wanted is None:
            self._wanted = max(1, observation.wanted)
        between = 0 <= now - self._synced < SYNC_S
        if between and not (starting and starting[0] <= now):
            return
        while starting and starting[0] <= now:
            starting.popleft()
        if not between:
            self._synced = now
            self._sync(observation, start_delay_s)
        self._ready.append((now, self._wanted - len(starting)))
        while len(self._ready) > 1 and self._ready[1][0] <= now - JUDGED_S:
            self._ready.popleft()

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

    def ready_at(self, then: float) -> int:
        """What was ready at a time of the last while."""
        return next((ready for at, ready in reversed(self._ready) if at <= then), self._ready[0][1])


class Yardstick:
    """Lives through HPA and through every price of the ladder, and says which price is to be used.

    place, price, quantile: where that is on the ladder, the price, and the quantile of the load that it stands for.
    standing: how it stands against HPA, None until enough was seen.
    """

    def __init__(self) -> None:
        self._state = np.zeros(1, dtype=TOTALS)
        self._totals = self._state[0]
        self._totals["times"][:] = -math.inf
        self._shadow = Shadow()
        self._set(float(np.interp(math.log(FIRST_PRICE), _LOGARITHMS, np.arange(_PRICES))))
        self.standing: Reason | None = None

    def _set(self, place: float) -> None:
        self.place = place
        self.price = math.exp(self._at_place(_LOGARITHMS))
        self.quantile = quantile_of(self.price)

    def _at_place(self, values: Floats) -> float:
        return float(np.interp(self.place, np.arange(_PRICES), values[:_PRICES]))

    def live(self, observation: Observation, start_delay_s: float) -> None:
        """Go on to this tick."""
        self._shadow.live(observation, start_delay_s)

    def judge(
        self,
        observation: Observation,
        high_rps: Floats,
        floor_rps: float,
        each_rps: float,
        lead_s: float,
    ) -> None:
        """Note what each price asks for now, and what became of what it asked for a lead ago.

        high_rps: float64[price, instant] as the outlook has it for the ladder. floor_rps: what the last seconds ask
        for, whatever the price. each_rps: what a replica is given.
        """
        rate, now = observation.rate(JUDGED_S), observation.now
        weigh(
            self._state, now, high_rps, floor_rps, each_rps, lead_s,
            observation.min_replicas, observation.max_replicas,
            math.nan if rate is None else rate, self._shadow.ready_at(now - JUDGED_S / 2),
        )  # fmt: skip
        judged = self._totals["judged"]
        if judged >= FEWEST and judged % CHOOSE_EVERY == 0:
            self._choose()

    def _choose(self) -> None:
        totals = self._totals
        short, waste = totals["short"] / totals["weight"], totals["over"] / np.maximum(totals["had"], 1.0)
        self._set(chosen(short, waste))
        text = (
            "at price {:.0f}, {:.2g} % of the last hour or two had too few and {:.0f} % was wasted; "
            "HPA at 70 %: {:.2g} % and {:.0f} %"
        )
        shares = (self._at_place(short), self._at_place(waste), float(short[-1]), float(waste[-1]))
        self.standing = Reason("price", text, (self.price, *(100 * share for share in shares)))


def weigh(
    state: Record,
    now: float,
    high_rps: Floats,
    floor_rps: float,
    each_rps: float,
    lead_s: float,
    fewest: int,
    most: int,
    rate_rps: float,
    hpa_ready: int,
) -> None:
    """Note what each price wants now, and judge what it wanted a lead ago by what is needed by now.

    What is ready at a time is the least that was wanted since a lead before it: who is let go in between is not there.
    """
    totals = state[0]
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
    keep = 1.0 - 1.0 / MEMORY
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


KERNELS = ("weigh",)
"""What may be compiled."""
