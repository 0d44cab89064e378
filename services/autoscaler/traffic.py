"""The last minutes of traffic by second, put together from what the gateways report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FORGET_S = 10
"""Seconds after its last report for which a gateway is still expected to report: a silent one is a gap, not
a zero.
"""

_AHEAD_S = 2  # a gateway's clock may be this far ahead of ours
_MOST_INSTANCES = 64


@dataclass(frozen=True, slots=True)
class _Second:
    arrivals: int
    answered: int
    in_flight: int


@dataclass(slots=True)
class _Gateway:
    first: int
    last: int
    last_t: float


class TrafficHistory:
    """Counts per second for `seconds` seconds; reports that come twice, late or out of order do no harm."""

    def __init__(self, seconds: int = 120) -> None:
        """seconds: how much is kept."""
        self._keep = seconds
        self._seconds: dict[int, dict[str, _Second]] = {}
        self._gateways: dict[str, _Gateway] = {}

    def hear(self, message: Mapping[str, Any]) -> None:
        """Take in a message of topic `traffic`; raises ValueError or KeyError, naming the field, if it is
        none.
        """
        t = message["t"]
        if isinstance(t, bool) or not isinstance(t, int | float) or not math.isfinite(t):
            raise ValueError(f"traffic: t {t!r} is no time")
        counts = [message["arrivals"], message["answered"], message["in_flight"]]
        if any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in counts):
            raise ValueError(f"traffic: arrivals, answered, in_flight must be counts, not {counts}")
        instance = str(message["instance"])
        second = self._second_of(instance, float(t))
        if second is not None:
            self._seconds.setdefault(second, {})[instance] = _Second(*counts)
        self._prune()

    def _second_of(self, instance: str, t: float) -> int | None:
        """Which second a report is about; None for one too old to matter.

        Reports come about a second apart with some jitter. Rounding each by itself would put two of them
        into one second and none into the next, so a report is placed relative to the one before.
        """
        gateway = self._gateways.get(instance)
        if gateway is None:
            if len(self._gateways) >= _MOST_INSTANCES:
                raise ValueError(
                    f"traffic: more than {_MOST_INSTANCES} gateways report, {instance!r} is one too many"
                )
            self._gateways[instance] = _Gateway(first=round(t), last=round(t), last_t=t)
            return round(t)
        second = gateway.last + round(t - gateway.last_t)
        if abs(second - t) > 1:  # the clock was set, or the gateway began anew
            second = round(t)
        if second >= gateway.last or gateway.last > t + self._keep:
            gateway.last, gateway.last_t = second, t
        gateway.first = min(gateway.first, second)
        return second if second > gateway.last - self._keep else None

    def _prune(self) -> None:
        newest = max(gateway.last for gateway in self._gateways.values())
        for second in [s for s in self._seconds if not newest - self._keep < s <= newest]:
            del self._seconds[second]
        for name in [n for n, g in self._gateways.items() if g.last < newest - FORGET_S - self._keep]:
            del self._gateways[name]

    def _window(self, now: float, seconds: int) -> range:
        """The last seconds whose report is due at `now`: the newest one may be on its way still."""
        end = math.floor(now)
        newest = max((gateway.last for gateway in self._gateways.values()), default=end)
        if end - 1 <= newest <= end + _AHEAD_S:
            end = newest
        return range(end - seconds + 1, end + 1)

    def _reports(self, second: int) -> list[_Second] | None:
        """What all gateways reported about a second; None unless all that should have did."""
        reports = self._seconds.get(second)
        if not reports:
            return None
        expected = (n for n, g in self._gateways.items() if g.first <= second <= g.last + FORGET_S)
        return list(reports.values()) if all(name in reports for name in expected) else None

    def arrivals(self, now: float, seconds: int) -> tuple[int | None, ...]:
        """Requests in each of the last `seconds` seconds before `now`, oldest first; None where a report is
        missing.
        """
        reports = [self._reports(second) for second in self._window(now, seconds)]
        known = next((at for at, report in enumerate(reports) if report is not None), len(reports))
        # Before the first report there was nobody to hear it: that is no gap.
        return tuple(None if r is None else sum(one.arrivals for one in r) for r in reports[known:])

    def answered_rps(self, now: float, seconds: int) -> float | None:
        """Mean answers per second over the last `seconds` seconds; None unless each of them is known."""
        reports = [self._reports(second) for second in self._window(now, seconds)]
        answered = [sum(one.answered for one in r) for r in reports if r is not None]
        return sum(answered) / seconds if len(answered) == seconds else None

    def in_flight(self, now: float) -> int:
        """Requests that were in flight at the end of the newest known second; 0 if none is known of the last
        three.
        """
        for second in reversed(self._window(now, 3)):
            reports = self._reports(second)
            if reports is not None:
                return sum(one.in_flight for one in reports)
        return 0
