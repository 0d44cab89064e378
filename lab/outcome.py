"""What became of the requests of a replay."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Outcome(IntEnum):
    """One request's end. ``failed`` in the counts is everything but ANSWERED, SHED and UNSENT."""

    ANSWERED = 0
    """200 with an intent in it."""
    SHED = 1
    """429 or 503: the mesh said no in time."""
    REFUSED = 2
    """Any other status."""
    TIMED_OUT = 3
    """No complete response within the time-out, counted from the scheduled time."""
    BROKEN = 4
    """No connection, or it ended before the response was complete."""
    GARBLED = 5
    """200 whose body is no answer."""
    CLIENT_LIMITED = 6
    """Never left the client: as many requests as it may have were outstanding."""
    UNSENT = 7
    """The replay was stopped before its time."""


CLASS_OF_STATUS = {200: Outcome.ANSWERED, 429: Outcome.SHED, 503: Outcome.SHED}
FAILED = (Outcome.REFUSED, Outcome.TIMED_OUT, Outcome.BROKEN, Outcome.GARBLED, Outcome.CLIENT_LIMITED)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a replay stands.

    t_s: seconds since its start. sent: arrivals so far (client-limited ones included). answered, shed,
    failed: as in the final counts. outstanding: under way now. p95_ms: of what was answered since the last
    progress, None when nothing was.
    """

    t_s: float
    sent: int
    answered: int
    shed: int
    failed: int
    outstanding: int
    p95_ms: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """One entry per scheduled arrival, in the order of the schedule (k of them).

    scheduled_s: float64[k], seconds from the start. lag_s: float64[k], how much later than scheduled the
    request left (down to half a millisecond early; NaN when unsent): the client's own fault, so look here
    before blaming the mesh. latency_s: float64[k], from the *scheduled* time (or from sending, where that was
    earlier) to the complete response, so that a stalled client can't hide a stall of the mesh (no coordinated
    omission); for other outcomes the time until it was known. status: int16[k], 0 where no response came.
    outcome: int8[k], see Outcome. correct: int8[k], 1 or 0 for answers, else -1. degraded: bool[k]. tier:
    int8[k], index into ``tiers``, else -1. traces: (scheduled second, trace id) of the requests that were
    sampled. connections_opened, max_outstanding: what the client used, and its limit. began_s:
    ``time.monotonic()`` at second 0, by which other observations are put on the same axis.
    """

    scheduled_s: NDArray[np.float64]
    lag_s: NDArray[np.float64]
    latency_s: NDArray[np.float64]
    status: NDArray[np.int16]
    outcome: NDArray[np.int8]
    correct: NDArray[np.int8]
    degraded: NDArray[np.bool_]
    tier: NDArray[np.int8]
    tiers: tuple[str, ...]
    traces: tuple[tuple[float, str], ...]
    connections_opened: int
    max_outstanding: int
    began_s: float

    def count(self, *outcomes: Outcome) -> int:
        """How many requests ended in one of ``outcomes``."""
        return int(np.isin(self.outcome, outcomes).sum())

    def arrivals_per_second(self) -> NDArray[np.float64]:
        """Requests scheduled in each second: float64[seconds]; those that a stop left unsent don't count."""
        sent = self.scheduled_s[self.outcome != Outcome.UNSENT]
        counts: NDArray[np.float64] = np.bincount(sent.astype(np.int64)).astype(np.float64)
        return counts
