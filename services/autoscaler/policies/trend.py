"""A straight line through the last two minutes, drawn on over the start delay: prediction at its simplest.

Least squares, as in the linear model of jthomperoo/predictive-horizontal-pod-autoscaler, on the load instead of on
replica counts, and over the delay that was measured instead of one that is set.
"""

from __future__ import annotations

from itertools import accumulate

from services.autoscaler.decision import Decision, Reason
from services.autoscaler.observation import GAP_S, Observation
from services.autoscaler.policies.answer import answered
from services.autoscaler.policies.persistence import UTILISATION

WINDOW_S = 120
FEWEST = 30
"""Known seconds below which there is no line to draw on, and the mean goes on."""


class Trend:
    """Wants replicas for where the line will be when they are ready. No state, no cadence, no hold."""

    name = "trend"

    def __init__(self, *, headroom: float = 0.2, tick_s: float = 2.0, queue_bound: int = 512) -> None:
        """headroom: share that is added to the rate; raises ValueError for a negative one. tick_s: seconds."""
        if not headroom >= 0:
            raise ValueError(f"headroom {headroom} is below zero")
        self._headroom = headroom
        self._tick_s = tick_s
        self._queue_bound = queue_bound

    def decide(self, observation: Observation) -> Decision:
        """Follow the line; hold while counts, capacity or start delay are not known."""
        current, capacity, delay = observation.wanted, observation.capacity_rps, observation.start_delay_s
        if observation.outage or capacity is None or delay is None:
            text = "no count within {} s, or no capacity or start delay known, holding {}"
            reason = Reason("no-metrics", text, (GAP_S, current))
            return answered(self.name, observation, current, None, reason, queue_bound=self._queue_bound)
        ahead = delay + self._tick_s
        rate = line(observation.arrivals[-WINDOW_S:], ahead)
        demand, each = rate * (1 + self._headroom), capacity * UTILISATION
        text = (
            "the line through {} s is at {:.1f} req/s in {:.0f} s; {:.0f} % headroom; a replica serves {:.2f}"
        )
        reason = Reason("trend", text, (WINDOW_S, rate, ahead, self._headroom * 100, each))
        return answered(self.name, observation, demand / each, rate, reason, queue_bound=self._queue_bound)


def line(counts: tuple[int | None, ...], ahead_s: float) -> float:
    """Requests per second on the least-squares line through `counts` (one a second, oldest first, None where unknown)
    `ahead_s` seconds after the end of the last one; never negative. With few known counts, their mean; 0.0 without
    any.
    """
    n = len(counts)
    try:
        # Without a gap, which is nearly always. All of them integers, so nothing is lost to cancellation.
        y_sum = sum(counts)  # type: ignore[arg-type]
        # Each count is in as many sums of the first few as there are counts from it on.
        xy_sum = n * y_sum - sum(accumulate(counts))  # type: ignore[arg-type]
        x_sum, xx_sum = n * (n - 1) // 2, n * (n - 1) * (2 * n - 1) // 6
    except TypeError:
        points = [(x, count) for x, count in enumerate(counts) if count is not None]
        n, x_sum, xx_sum = len(points), sum(x for x, _ in points), sum(x * x for x, _ in points)
        y_sum, xy_sum = sum(y for _, y in points), sum(x * y for x, y in points)
    if n < FEWEST:
        return y_sum / n if n else 0.0
    slope: float = (n * xy_sum - x_sum * y_sum) / (n * xx_sum - x_sum * x_sum)
    level: float = (y_sum - slope * x_sum) / n
    return max(0.0, level + slope * (len(counts) - 0.5 + ahead_s))
