"""Quantiles for a forecaster that only knows a point: those of its own errors on this very series."""

from time import perf_counter
from typing import Protocol

import numpy as np

from services.predictor.forecast import HORIZONS, QUANTILES, Floats, Forecast
from services.predictor.origins import Ledger
from services.predictor.persistence import persist, quantiles

MEMORY = 300
"""Errors remembered for each horizon."""

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
        self._errors: list[list[float]] = [[] for _ in HORIZONS]
        self._rows: dict[int, Floats] = {}

    @property
    def name(self) -> str:
        """That of the points' maker."""
        return self._source.name

    def forecast(self, history: Floats, step_s: float, now: float) -> Forecast:
        """See Forecaster.forecast."""
        started = perf_counter()
        for horizon, said, outcome in self._ledger.settle(history, step_s, now):
            errors = self._errors[horizon]
            # Relative to what was said, with the noise of a count for a floor: levels move, shares stay.
            errors.append((outcome - said[horizon]) / (said[horizon] + 1.0))
            del errors[:-MEMORY]
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
        if min(len(errors) for errors in self._errors) < FEW:
            rows = persist(history)
            return rows - rows[:, [_MEDIAN]]
        for horizon, errors in enumerate(self._errors):
            if horizon not in self._rows:
                self._rows[horizon] = quantiles(np.asarray(errors))
        return np.stack([self._rows[h] for h in range(len(HORIZONS))]) * (points[:, None] + 1.0)
