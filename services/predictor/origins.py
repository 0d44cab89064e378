"""What was said at earlier origins, kept until its outcome is known: how a forecaster learns from a live series.

Windows slide: live, a minute's steps end at any second. Once a step is soon enough to learn from, and an
outcome between two windows is read between them.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from services.predictor.forecast import HORIZONS, Floats

Said = TypeVar("Said")


class Settled(NamedTuple, Generic[Said]):
    """An outcome and what had been said of it. horizon: index into HORIZONS; outcome: requests in the step."""

    horizon: int
    said: Said
    outcome: float


def count_ending(history: Floats, step_s: float, now: float, at: float) -> float:
    """Requests in the step that ended at `at`, from steps of which the last ends at `now`; NaN if unknown."""
    back = (now - at) / step_s
    near = int(back + 1e-6)
    part = back - near
    if back < -1e-6 or near + (part > 1e-6) >= len(history):
        return float("nan")
    if part <= 1e-6:
        return float(history[-1 - near])
    return float((1 - part) * history[-1 - near] + part * history[-2 - near])


def rounds(settled: Sequence[Settled[Said]]) -> Iterator[Sequence[Settled[Said]]]:
    """Outcomes in parts that hold none of a horizon twice, in order: what can be learned from at once."""
    begin, seen = 0, set[int]()
    for at, one in enumerate(settled):
        if one.horizon in seen:
            yield settled[begin:at]
            begin, seen = at, set()
        seen.add(one.horizon)
    if settled:
        yield settled[begin:]


class Ledger(Generic[Said]):
    """Keeps what was said, at most once a step, and gives it back horizon by horizon as outcomes come."""

    def __init__(self) -> None:
        self._kept: deque[tuple[float, Said, list[int]]] = deque()
        self._step_s = 0.0
        self._at = -np.inf

    def settle(self, history: Floats, step_s: float, now: float) -> list[Settled[Said]]:
        """What this history tells the outcome of, the oldest first; unknown outcomes are dropped.

        Another step length, or a clock that was set back, makes what is kept worthless: it is forgotten.
        """
        if step_s != self._step_s or now < self._at - 1e-6:
            self._kept.clear()
            self._step_s, self._at = step_s, -np.inf
        found: list[Settled[Said]] = []
        until = now + 1e-6
        for at, said, open_ in self._kept:
            while open_ and (ends := at + HORIZONS[open_[0]] * step_s) <= until:
                horizon = open_.pop(0)
                outcome = count_ending(history, step_s, now, ends)
                if math.isfinite(outcome):
                    found.append(Settled(horizon, said, outcome))
        while self._kept and not self._kept[0][2]:
            self._kept.popleft()
        return found

    def due(self, now: float) -> bool:
        """Whether a step has passed since something was kept."""
        return now - self._at >= self._step_s * (1 - 1e-6)

    def keep(self, now: float, said: Said) -> None:
        """Keep what is said at `now`, if it is due."""
        if self.due(now):
            self._kept.append((now, said, list(range(len(HORIZONS)))))
            self._at = now
