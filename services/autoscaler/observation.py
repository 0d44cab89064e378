"""What a policy reads: one frozen observation, the same type live and replayed in the lab."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from functools import lru_cache
from operator import lt
from typing import Any

import msgspec

GAP_S = 5
"""Seconds without one known count after which the metric is taken for dead."""


class ForecastView(msgspec.Struct, frozen=True):
    """Quantiles of the arrival rate in the time to come, as a policy sees them.

    issued_at: end of the last step the forecaster knew, epoch seconds; horizons count from here. step_s:
    seconds in one of its steps, which is also how often a new forecast is due. horizons_s: ascending,
    seconds. quantiles: ascending, in 0..1. rates_rps: requests per second, one row per horizon, one entry
    per quantile.
    """

    issued_at: float
    step_s: float
    horizons_s: tuple[float, ...]
    quantiles: tuple[float, ...]
    rates_rps: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        """Raises ValueError, naming the field, when the shapes or orders above do not hold."""
        if not (math.isfinite(self.issued_at) and math.isfinite(self.step_s) and self.step_s > 0):
            raise ValueError(f"forecast: issued_at {self.issued_at} or step_s {self.step_s} is no time")
        for name, values in (("horizons_s", self.horizons_s), ("quantiles", self.quantiles)):
            if not _ascending(values):
                raise ValueError(f"forecast: {name} must be ascending and not empty, not {list(values)}")
        if not (self.horizons_s[0] >= 0 and self.quantiles[0] >= 0 and self.quantiles[-1] <= 1):
            raise ValueError("forecast: horizons_s must not be negative, quantiles must lie in 0..1")
        rows = self.rates_rps
        if len(rows) != len(self.horizons_s):
            raise ValueError(f"forecast: {len(rows)} rows of rates_rps for {len(self.horizons_s)} horizons")
        for length in set(map(len, rows)):
            if length != len(self.quantiles):
                raise ValueError(
                    f"forecast: a row of rates_rps has {length} of {len(self.quantiles)} quantiles"
                )
        # One that is not finite makes a sum that is not.
        if not (math.isfinite(sum(map(sum, rows))) and min(map(min, rows)) >= 0):
            wrong = next(row for row in rows if not all(0 <= rate < math.inf for rate in row))
            raise ValueError(f"forecast: rates_rps must be finite and not negative, not {list(wrong)}")

    @classmethod
    def from_message(cls, data: Mapping[str, Any]) -> ForecastView:
        """The forecast in a message of topic `forecasts`; raises ValueError or KeyError for any other."""
        try:
            return cls(
                issued_at=float(data["issued_at"]),
                step_s=float(data["step_s"]),
                horizons_s=tuple(float(h) for h in data["horizons_s"]),
                quantiles=tuple(float(q) for q in data["quantiles"]),
                rates_rps=tuple(tuple(float(rate) for rate in row) for row in data["rates_rps"]),
            )
        except TypeError as error:
            raise ValueError(f"forecast: {error}") from error

    def age_s(self, now: float) -> float:
        """Seconds from the end of the last known step to `now`."""
        return now - self.issued_at

    def rate_at(self, horizon_s: float, quantile: float) -> float:
        """Requests per second `horizon_s` after `issued_at`, linear between horizons and between quantiles.

        Outside of those given the nearest holds: nothing is extrapolated.
        """
        return interpolated(horizon_s, self.horizons_s, self.by_horizon(quantile))

    def by_horizon(self, quantile: float) -> list[float]:
        """The rates at a quantile, one for each horizon."""
        right = bisect_left(self.quantiles, quantile)
        if right in (0, len(self.quantiles)):
            edge = min(right, len(self.quantiles) - 1)
            return [row[edge] for row in self.rates_rps]
        low, high = self.quantiles[right - 1], self.quantiles[right]
        share = (quantile - low) / (high - low)
        return [row[right - 1] + share * (row[right] - row[right - 1]) for row in self.rates_rps]

    def peak(self, from_s: float, to_s: float, quantile: float) -> float:
        """Highest `rate_at` between two horizons.

        This is the maximum of the quantiles, which is at most the quantile of the maximum: the joint law of
        the steps is not in the message.
        """
        by_horizon = self.by_horizon(quantile)
        # Piecewise linear, so the maximum lies at an end or at a horizon in between.
        horizons = self.horizons_s
        inside = by_horizon[bisect_right(horizons, from_s) : bisect_left(horizons, to_s)]
        begin, end = interpolated(from_s, horizons, by_horizon), interpolated(to_s, horizons, by_horizon)
        return max(begin, end, *inside)


@lru_cache(maxsize=16)
def _ascending(values: tuple[float, ...]) -> bool:
    """Whether each is above the one before, and there is one. Remembered, as they are the same from one forecast to
    the next."""
    return bool(values) and all(map(lt, values, values[1:]))


def interpolated(x: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    """`ys` at `x`, linear between the ascending `xs`; beyond them the first or last value."""
    right = bisect_left(xs, x)
    if right == 0:
        return ys[0]
    if right == len(xs):
        return ys[-1]
    share = (x - xs[right - 1]) / (xs[right] - xs[right - 1])
    return ys[right - 1] + share * (ys[right] - ys[right - 1])


class Observation(msgspec.Struct, frozen=True):
    """Everything a policy may know at one tick.

    now: epoch seconds. arrivals: requests in each second, oldest first, the last one the newest second whose
    report is due; None where the report is missing. wanted: replicas asked of the actuator so far. ready,
    starting, draining: replicas in each state. start_delay_s: measured time from the order to a ready
    replica, None until one was measured. capacity_rps: requests per second of one replica at 100 % of its
    quota, None until learned. in_flight: requests between arrival and answer. queue: those of them that wait
    for a replica. utilisation: share of its CPU quota that each ready replica used; fewer entries than
    `ready` mean that some are missing.
    """

    now: float
    arrivals: tuple[int | None, ...]
    wanted: int
    ready: int
    starting: int = 0
    draining: int = 0
    min_replicas: int = 1
    max_replicas: int = 1
    start_delay_s: float | None = None
    capacity_rps: float | None = None
    in_flight: int = 0
    queue: float = 0.0
    utilisation: tuple[float, ...] = ()
    forecast: ForecastView | None = None

    def __post_init__(self) -> None:
        """Raises ValueError when the bounds or the capacity make no sense."""
        if not 0 <= self.min_replicas <= self.max_replicas:
            raise ValueError(
                f"min_replicas {self.min_replicas} and max_replicas {self.max_replicas} exclude all"
            )
        if self.capacity_rps is not None and not self.capacity_rps > 0:
            raise ValueError(f"capacity_rps {self.capacity_rps} is not above zero")

    def known(self, seconds: int) -> Sequence[int]:
        """The counts that are known among the last `seconds` seconds, oldest first."""
        window = self.arrivals[-seconds:]
        return [count for count in window if count is not None] if None in window else window  # type: ignore[return-value]

    def rate(self, seconds: int) -> float | None:
        """Mean requests per second over what is known of the last `seconds` seconds; None if nothing is."""
        window = self.arrivals[-seconds:]
        try:
            # Without a gap, which is nearly always: policies ask for minutes of seconds at each tick.
            return sum(window) / len(window) if window else None  # type: ignore[arg-type]
        except TypeError:
            known = self.known(seconds)
            return sum(known) / len(known) if known else None

    @property
    def outage(self) -> bool:
        """Whether no count arrived for GAP_S seconds: a dead metric, which says nothing of the load."""
        # The newest count is there nearly always, and policies ask at each tick.
        return (not self.arrivals or self.arrivals[-1] is None) and not self.known(GAP_S)

    @property
    def mean_utilisation(self) -> float | None:
        """Mean share of the CPU quota over the ready replicas that were measured; None if none was."""
        return sum(self.utilisation) / len(self.utilisation) if self.utilisation else None

    @property
    def unmeasured(self) -> int:
        """Ready replicas without a utilisation."""
        missing = self.ready - len(self.utilisation)
        return missing if missing > 0 else 0

    def bounded(self, replicas: float) -> int:
        """`replicas`, rounded up and brought into min_replicas..max_replicas."""
        # A sum such as 2.0000000000000004 is two replicas and not three.
        count = math.ceil(replicas - 1e-9)
        if count < self.min_replicas:
            return self.min_replicas
        return self.max_replicas if count > self.max_replicas else count
