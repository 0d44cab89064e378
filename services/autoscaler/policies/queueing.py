"""Replicas at which requests keep their SLO: a queue with several servers, by Erlang's C and the correction of Allen
and Cunneen for arrivals and service that are not memoryless (Allen, "Probability, Statistics and Queueing Theory",
1990).

A share of the capacity, such as 85 %, is right for many replicas and too much for one: one that is busy for 85 % of the
time keeps people waiting. The same share is too much where requests come in bursts.
"""

from __future__ import annotations

import math
from functools import lru_cache

BEYOND = 0.01
"""Share of requests that may take longer than the SLO."""

SERVICE_VARIANCE = 0.25
"""Squared coefficient of variation of the time that a request takes: sentences differ little in length."""

MOST_VARIANCE = 25.0
"""Squared coefficient of variation of the time between arrivals that is believed, at most."""

_CERTAIN = -math.log(BEYOND)
_FADE_S = 120.0
_WILDEST = 10.0  # times the variance that is known
_BISECTIONS = 20


class Burstiness:
    """How bursty arrivals are: variance over mean of counts, 1 for chance alone, learned from one tick to the next."""

    def __init__(self, tick_s: float) -> None:
        """tick_s: seconds between two calls."""
        self._tick_s = tick_s
        self._weight = min(1.0, tick_s / _FADE_S)
        self._last: float | None = None
        self._variance = 0.0
        self._mean = 0.0

    def hear(self, rate_rps: float | None) -> None:
        """Take in the rate of a tick; one that is not known teaches nothing."""
        last, self._last = self._last, rate_rps
        if rate_rps is None or last is None:
            return
        # Half of the squared step from one count to the next: a load that rises steadily is not bursty, and one
        # that jumps to another level now and then is hardly so.
        step = (rate_rps - last) * self._tick_s
        most = _WILDEST * max(self._variance, self._mean, 1.0)
        self._variance += self._weight * (min(step * step / 2, most) - self._variance)
        self._mean += self._weight * (rate_rps * self._tick_s - self._mean)

    @property
    def variance(self) -> float:
        """Squared coefficient of variation of the time between arrivals: 1 until more is known."""
        if self._mean <= 0:
            return 1.0
        return min(max(self._variance / self._mean, 1.0), MOST_VARIANCE)


def replicas_for(
    rate_rps: float, capacity_rps: float, slo_s: float, variance: float, least: int, most: int
) -> int:
    """The fewest replicas, from `least` to `most`, at which no more than BEYOND of requests take longer than slo_s.

    capacity_rps: requests per second that keep one replica busy all the time, one after the other. variance: see
    Burstiness. An SLO that one request alone can't keep asks for nothing.
    """
    patience = slo_s * capacity_rps - 1.0
    if patience <= 0.0:
        return least
    spread, busy = (variance + SERVICE_VARIANCE) / 2, rate_rps / capacity_rps
    if (least - busy) * patience >= _CERTAIN * spread:
        return least  # even if everybody had to wait
    # In steps, so that what was found once need not be found again at each tick.
    patience, spread = _stepped(patience), _stepped(spread)
    replicas = max(least, math.ceil(busy))
    while replicas < most and busy > most_busy(replicas, patience, spread):
        replicas += 1
    return min(replicas, most)


@lru_cache(maxsize=16_384)
def most_busy(replicas: int, patience: float, spread: float) -> float:
    """How many of the replicas may be busy on average. patience: longest wait, in times of a lone request's service.
    spread: mean of the two squared coefficients of variation."""
    if replicas < 1:
        return 0.0
    low, high = 0.0, float(replicas)
    for _ in range(_BISECTIONS):
        busy = (low + high) / 2
        if beyond(replicas, busy, patience, spread) > BEYOND:
            high = busy
        else:
            low = busy
    return low


def beyond(replicas: int, busy: float, patience: float, spread: float) -> float:
    """Share of requests that wait longer than `patience`, with `busy` of the replicas busy on average."""
    if busy >= replicas:
        return 1.0
    blocked = 1.0  # Erlang's B of no server, and then of one more at a time
    for servers in range(1, replicas + 1):
        blocked = busy * blocked / (servers + busy * blocked)
    waits = blocked / (1.0 - busy / replicas * (1.0 - blocked))
    return waits * math.exp(-(replicas - busy) * patience / spread)


def _stepped(value: float) -> float:
    """To the nearest of steps of 5 %."""
    return float(1.05 ** round(math.log(value) / math.log(1.05)))
