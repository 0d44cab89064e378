"""Replicas at which requests keep their SLO: a queue with several servers, by Erlang's C and the correction of Allen
and Cunneen for arrivals and service that are not memoryless (Allen, "Probability, Statistics and Queueing Theory",
1990).

A share of the capacity, such as 85 %, is right for many replicas and too much for one: one that is busy for 85 % of the
time keeps people waiting. The same share is too much where requests come in bursts.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

BEYOND = 0.01
"""Share of requests that may take longer than the SLO."""

SERVICE_VARIANCE = 0.25
"""Squared coefficient of variation of the time that a request takes: sentences differ little in length."""

MOST_VARIANCE = 25.0
"""Squared coefficient of variation of the time between arrivals that is believed, at most."""

_CERTAIN = -math.log(BEYOND)
_FADE_S = 120.0
_WILDEST = 10.0  # times the variance that is known

BURSTINESS = np.dtype([("last", "f8"), ("variance", "f8"), ("mean", "f8")])
"""How bursty arrivals are, learned from one tick to the next: the rate of the last tick (NaN where it is not known),
and of counts of a tick the variance about their trend and the mean."""


def hear(burstiness: Any, rate_rps: float, tick_s: float) -> None:
    """Take in the rate of a tick, requests per second; one that is not known (NaN) teaches nothing."""
    last = burstiness["last"]
    burstiness["last"] = rate_rps
    if math.isnan(rate_rps) or math.isnan(last):
        return
    variance, mean, weight = burstiness["variance"], burstiness["mean"], min(1.0, tick_s / _FADE_S)
    # Half of the squared step from one count to the next: a load that rises steadily is not bursty, and one
    # that jumps to another level now and then is hardly so.
    step = (rate_rps - last) * tick_s
    most = _WILDEST * max(variance, mean, 1.0)
    burstiness["variance"] = variance + weight * (min(step * step / 2, most) - variance)
    burstiness["mean"] = mean + weight * (rate_rps * tick_s - mean)


def variance_of(burstiness: Any) -> float:
    """Squared coefficient of variation of the time between arrivals: 1 for chance alone, and until more is known."""
    if burstiness["mean"] <= 0:
        return 1.0
    return float(min(max(burstiness["variance"] / burstiness["mean"], 1.0), MOST_VARIANCE))


def replicas_for(
    rate_rps: float, capacity_rps: float, slo_s: float, variance: float, least: int, most: int
) -> int:
    """The fewest replicas, from `least` to `most`, at which no more than BEYOND of requests take longer than slo_s.

    capacity_rps: requests per second that keep one replica busy all the time, one after the other. variance: of
    the time between arrivals, as above. An SLO that one request alone can't keep asks for nothing.
    """
    patience = slo_s * capacity_rps - 1.0
    if patience <= 0.0:
        return least
    spread, busy = (variance + SERVICE_VARIANCE) / 2, rate_rps / capacity_rps
    if (least - busy) * patience >= _CERTAIN * spread:
        return least  # even if everybody had to wait
    replicas = max(least, math.ceil(busy))
    while replicas < most and beyond(replicas, busy, patience, spread) > BEYOND:
        replicas += 1
    return min(replicas, most)


def beyond(replicas: int, busy: float, patience: float, spread: float) -> float:
    """Share of requests that wait longer than `patience`, with `busy` of the replicas busy on average.

    patience: in times of a lone request's service. spread: mean of the two squared coefficients of variation.
    """
    if busy >= replicas:
        return 1.0
    blocked = 1.0  # Erlang's B of no server, and then of one more at a time
    for servers in range(1, replicas + 1):
        blocked = busy * blocked / (servers + busy * blocked)
    waits = blocked / (1.0 - busy / replicas * (1.0 - blocked))
    return waits * math.exp(-(replicas - busy) * patience / spread)


KERNELS = ("hear", "variance_of", "beyond", "replicas_for")
"""What may be compiled, each after what it calls."""
