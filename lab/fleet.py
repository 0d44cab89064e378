"""The replicas of a simulated app: ordered, starting, ready, draining; starts jitter and may fail."""

from __future__ import annotations

import math
import statistics
from bisect import bisect_right, insort
from collections import deque
from dataclasses import dataclass

import numpy as np

_DRAWN = 4096
_NEVER = 1 << 62
_MEASURED = 5  # starts whose median is the measured start delay, as the supervisor has it


@dataclass(frozen=True, slots=True)
class Starts:
    """How replicas come and go.

    delay_s: median seconds from the order to a ready replica; above zero. jitter: standard
    deviation of the delay's logarithm. failure: probability that a start fails, which shows when it should be ready;
    it then begins anew. drain_s: seconds in which a replica that was let go finishes what it has.
    """

    delay_s: float = 30.0
    jitter: float = 0.1
    failure: float = 0.01
    drain_s: float = 10.0

    def __post_init__(self) -> None:
        """Raises ValueError naming the field that makes no sense."""
        for name in ("delay_s", "jitter", "drain_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"starts: {name} {value} must be 0 or more")
        if self.delay_s == 0:
            raise ValueError(
                "starts: delay_s 0 would make every policy a perfect one; give seconds above zero"
            )
        if not 0 <= self.failure < 1:
            raise ValueError(f"starts: failure {self.failure} is outside 0..1")


class Fleet:
    """Counts of replicas by state; times in whole seconds of the run."""

    def __init__(self, starts: Starts, replicas: int, random: np.random.Generator) -> None:
        """replicas: ready at second 0. random: the n-th start takes as long whichever policy orders it."""
        self.wanted = self.ready = replicas
        self.start_delay_s = starts.delay_s
        self._starts = starts
        self._delays: list[tuple[int, bool]] = []
        for delay, luck in zip(
            starts.delay_s * np.exp(starts.jitter * random.standard_normal(_DRAWN)),
            random.random(_DRAWN),
            strict=True,
        ):
            self._delays.append((round(float(delay)), bool(luck < starts.failure)))
        self._ordered = 0
        self._starting: list[
            tuple[int, int]
        ] = []  # (second it is ready, seconds it took; 0: not to be measured)
        self._draining: list[int] = []
        self._measured: deque[float] = deque([starts.delay_s], maxlen=_MEASURED)

    @property
    def starting(self) -> int:
        """Replicas that were ordered and are not ready."""
        return len(self._starting)

    @property
    def draining(self) -> int:
        """Replicas that were let go and are still there."""
        return len(self._draining)

    @property
    def moving(self) -> bool:
        """Whether any replica starts or drains; if not, nothing changes until the next order."""
        return bool(self._starting or self._draining)

    @property
    def next_due(self) -> int:
        """The second in which the next replica becomes ready or goes, after what was due."""
        starting = self._starting[0][0] if self._starting else _NEVER
        return min(starting, self._draining[0]) if self._draining else starting

    @property
    def pods(self) -> int:
        """All replicas that exist."""
        return self.ready + len(self._starting) + len(self._draining)

    def order(self, second: int, wanted: int) -> None:
        """Start or let go of replicas; those not ready yet go first, the youngest before the others."""
        more = wanted - self.wanted
        self.wanted = wanted
        for _ in range(more):
            self._start(second)
        for _ in range(-more):
            if self._starting:
                self._starting.pop()
            else:
                self.ready -= 1
                self._draining.append(second + round(self._starts.drain_s))

    def _start(self, second: int) -> None:
        took, failed = self._next()
        at, measured = second + took, took
        while failed:
            took, failed = self._next()
            at, measured = at + took, 0
        insort(self._starting, (at, measured))

    def _next(self) -> tuple[int, bool]:
        drawn = self._delays[self._ordered % _DRAWN]
        self._ordered += 1
        return drawn

    def advance(self, second: int) -> None:
        """Let what is due at the start of `second` become ready or go."""
        if self._starting and self._starting[0][0] <= second:
            due = bisect_right(self._starting, second, key=lambda start: start[0])
            for _, took in self._starting[:due]:
                if took:
                    self._measured.append(float(took))
            del self._starting[:due]
            self.ready += due
            self.start_delay_s = statistics.median(self._measured)
        if self._draining and self._draining[0] <= second:
            del self._draining[: bisect_right(self._draining, second)]
