"""Quantiles for a forecaster that only knows a point: those of its own errors on this very series."""

from time import perf_counter
from typing import Protocol

import numpy as np

from services.predictor.forecast import HORIZONS, QUANTILES, Floats, Forecast
from services.predictor.origins import Ledger
from services.predictor.persistence import persist, quantiles

MEMORY = 300
"""Errors remembered for each horizon."""

ERROR_LIMIT = 3.0
"""An outcome counts as at most so many times what was said above it."""

FEW = 20
"""With fewer errors than this the spread is persistence's."""

_MEDIAN = QUANTILES.index(0.5)


class Points(Protocol):
    """Anything that says one number for each horizon."""

    @property
    def name(self) -> str:
        """What `Forecast.model` says."""

    def points(self, history: Floats, step_s: float, now: float) -> Floats:
        """Requests per step at each of HORIZONS; see Forecaster.forecast. Raises ColdStart."""


class WithSpread:
    """A forecaster out of points and of the quantiles of their errors, relative to the level."""

    def __init__(self, source: Points) -> None:
        self._source = source
        self._ledger: Ledger[Floats] = Ledger()
        # Errors in rings, one a horizon: where the next one goes is how many there were.
        self._errors = np.zeros((len(HORIZONS), MEMORY))
        self._count = [0] * len(HORIZONS)
        self._rows: dict[int, Floats] = {}

    @property
    def name(self) -> str:
        """That of the points' maker."""
        return self._source.name

    def forecast(self, history: Floats, step_s: float, now: float) -> Forecast:
        """See Forecaster.forecast."""
        started = perf_counter()
        for horizon, said, outcome in self._ledger.settle(history, step_s, now):
            # Relative to what was said, with the noise of a count for a floor: levels move, shares stay. The first
            # request after a night of zeros is infinitely more than was said, and tells nothing of the day's errors.
            error = (outcome - float(said[horizon])) / (float(said[horizon]) + 1.0)
            self._errors[horizon, self._count[horizon] % MEMORY] = min(error, ERROR_LIMIT)
            self._count[horizon] += 1
            self._rows.pop(horizon, None)
        points = self._source.points(history, step_s, now)
        self._ledger.keep(now, points)
        return Forecast.from_counts(
            points[:, None] + self._spread(points, history),
            model=self.name,
            history=history,
            step_s=step_s,
            now=now,
            compute_ms=(perf_counter() - started) * 1e3,
        )

    def _spread(self, points: Floats, history: Floats) -> Floats:
        if min(self._count) < FEW:
            rows = persist(history)
            return rows - rows[:, [_MEDIAN]]
        for horizon, count in enumerate(self._count):
            if horizon not in self._rows:
                self._rows[horizon] = quantiles(self._errors[horizon, : min(count, MEMORY)])
        return np.stack([self._rows[h] for h in range(len(HORIZONS))]) * (points[:, None] + 1.0)
