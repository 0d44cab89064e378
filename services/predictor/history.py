"""The seconds that the gateways have reported, kept in a bounded ring, and the steps made of them.

A second that nobody reported is a gap and never a zero: a metric outage must not look like an end of traffic.
"""

from enum import StrEnum
from typing import Any

import numpy as np

from services.predictor.forecast import Floats

SKEW_S = 5
"""Seconds by which a report may be ahead of this machine's clock."""

ABSENT_S = 5
"""An instance that was silent for longer is gone and no longer waited for."""

MAX_INSTANCES = 16
"""Gateways counted at once; beyond, the one that was silent the longest is forgotten."""

KNOWN_SHARE = 0.5
"""A step of which at least this share of seconds is known is scaled up to a whole one; else it is a gap."""


class Verdict(StrEnum):
    """What became of a report."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    LATE = "late"
    FUTURE = "future"


class History:
    """Arrivals by second and instance; every ring ends at the newest second reported by anyone."""

    def __init__(self, capacity_s: int, late_s: int) -> None:
        """Keep `capacity_s` seconds; take reports that are up to `late_s` seconds older than the newest."""
        self._capacity_s = capacity_s
        self._late_s = late_s
        self._newest: int | None = None
        self._rings: dict[str, Floats] = {}
        # What a former run had counted, all instances together.
        self._restored = np.full(capacity_s, np.nan)

    def add(self, instance: str, t: float, arrivals: float, now: float) -> Verdict:
        """Count `arrivals` requests in the second that ended at `t`, as reported by `instance`.

        t, now: epoch seconds. The same instance and second count once.
        """
        second = round(t)
        if second > now + SKEW_S:
            return Verdict.FUTURE
        if self._newest is None:
            self._newest = second
        elif self._newest > now + SKEW_S:
            # The clock was set back: what is known moves with it, or all reports would be late for as long.
            self._newest = second - 1
        self._advance(second)
        index = second - self._newest - 1
        if index < -min(self._late_s + 1, self._capacity_s):
            return Verdict.LATE
        ring = self._ring(instance)
        if np.isfinite(ring[index]) or np.isfinite(self._restored[index]):
            return Verdict.DUPLICATE
        ring[index] = arrivals
        return Verdict.ACCEPTED

    def end(self) -> int | None:
        """The newest second that every gateway has reported (epoch seconds, its end); None before any."""
        known = np.flatnonzero(np.isfinite(self.seconds()))
        if self._newest is None or not known.size:
            return None
        return self._newest - self._capacity_s + 1 + int(known[-1])

    def seconds(self) -> Floats:
        """Arrivals per second, all instances together, oldest first, up to the newest; NaN where unknown.

        A second is known when every instance that is there has reported it. An instance is there from its
        first report until ABSENT_S after its last one; later its share is the others' to carry.
        """
        total = np.where(np.isfinite(self._restored), self._restored, 0.0)
        known = np.isfinite(self._restored)
        missing = np.zeros(self._capacity_s, dtype=bool)
        at = np.arange(self._capacity_s)
        for ring in self._rings.values():
            reported = np.isfinite(ring)
            since = at - np.maximum.accumulate(np.where(reported, at, -self._capacity_s))
            missing |= (since > 0) & (since <= ABSENT_S)
            total += np.where(reported, ring, 0.0)
            known |= reported
        return np.where(known & ~missing, total, np.nan)

    def steps(self, step_s: int, most: int) -> Floats:
        """Arrivals per step, oldest first, of the window that slides with `end()`: its last step ends there.

        At most `most` steps, from the first that is known on; NaN for a gap.
        """
        seconds = self.seconds()
        known = np.flatnonzero(np.isfinite(seconds))
        if not known.size:
            return np.empty(0)
        seconds = seconds[: known[-1] + 1]
        count = min(-(-(len(seconds) - int(known[0])) // step_s), len(seconds) // step_s, most)
        if count == 0:
            return np.empty(0)
        parts = seconds[-count * step_s :].reshape(count, step_s)
        there = np.isfinite(parts).sum(axis=1)
        sums = np.nansum(parts, axis=1) * step_s / np.maximum(there, 1)
        steps = np.where(there >= KNOWN_SHARE * step_s, sums, np.nan)
        whole = np.flatnonzero(np.isfinite(steps))
        return steps[whole[0] :] if whole.size else np.empty(0)

    def dump(self) -> dict[str, Any]:
        """The history as JSON: {"newest": epoch second, "arrivals": [count or null, ...]}, oldest first."""
        seconds = self.seconds()
        known = np.flatnonzero(np.isfinite(seconds))
        if self._newest is None or not known.size:
            return {"newest": 0, "arrivals": []}
        kept = seconds[known[0] : known[-1] + 1]
        rounded = np.round(kept, 3).tolist()
        arrivals = [None if count != count else count for count in rounded]  # noqa: PLR0124  # NaN
        return {"newest": self._newest - self._capacity_s + 1 + int(known[-1]), "arrivals": arrivals}

    def restore(self, saved: Any, now: float) -> int:
        """Put back what `dump` gave, under what has been reported since; returns the seconds restored.

        Anything else than such a document, or one from the future, raises ValueError.
        """
        try:
            newest = int(saved["newest"])
            values = [np.nan if count is None else float(count) for count in saved["arrivals"]]
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f"not a saved history: {error!r}") from error
        if newest > now + SKEW_S:
            raise ValueError(f"the saved history ends at {newest}, in the future of {now:.0f}")
        arrivals = np.asarray(values[-self._capacity_s :], dtype=np.float64)
        if np.isinf(arrivals).any() or (arrivals < 0).any():
            raise ValueError("the saved history holds what is not a count")
        if not arrivals.size:
            return 0
        if self._newest is None:
            self._newest = newest
        self._advance(newest)
        stop = self._capacity_s - (self._newest - newest)
        begin = max(stop - arrivals.size, 0)
        if stop <= 0:
            return 0
        self._restored[begin:stop] = arrivals[arrivals.size - (stop - begin) :]
        for ring in self._rings.values():
            ring[np.isfinite(self._restored)] = np.nan
        return int(np.isfinite(self._restored).sum())

    def put_before(self, counts: Floats) -> None:
        """Let `counts` (requests per second, oldest first) be what came before the first request reported.

        Whatever had been reported for those seconds, zeros that is, is replaced. ValueError when no gateway
        has reported any request yet.
        """
        busy = np.flatnonzero(np.nan_to_num(self.seconds()) > 0)
        if not busy.size:
            raise ValueError("no request has been reported that anything could come before")
        stop = int(busy[0])
        begin = max(stop - len(counts), 0)
        for ring in (self._restored, *self._rings.values()):
            ring[:stop] = np.nan
        self._restored[begin:stop] = counts[len(counts) - (stop - begin) :]

    def _advance(self, second: int) -> None:
        """Let every ring end at `second` if that is newer than what they end at."""
        assert self._newest is not None  # noqa: S101  # set by every caller
        by = min(second - self._newest, self._capacity_s)
        if by <= 0:
            return
        for ring in (self._restored, *self._rings.values()):
            ring[:-by] = ring[by:]
            ring[-by:] = np.nan
        self._newest = second
        for name in [name for name, ring in self._rings.items() if not np.isfinite(ring).any()]:
            del self._rings[name]

    def _ring(self, instance: str) -> Floats:
        if instance not in self._rings:
            if len(self._rings) >= MAX_INSTANCES:
                ages = {name: int(np.argmax(np.isfinite(ring[::-1]))) for name, ring in self._rings.items()}
                gone = max(ages, key=lambda name: ages[name])
                self._fold(self._rings.pop(gone))
            self._rings[instance] = np.full(self._capacity_s, np.nan)
        return self._rings[instance]

    def _fold(self, ring: Floats) -> None:
        """Keep what a forgotten instance had counted."""
        both = np.isfinite(ring) | np.isfinite(self._restored)
        self._restored = np.where(both, np.nan_to_num(ring) + np.nan_to_num(self._restored), np.nan)
