"""Quantiles for a forecaster that only knows a point: those of its own errors on this very series."""

from typing import Protocol

import numpy as np

from services.predictor.forecast import HORIZONS, QUANTILES, Expert, Floats, Origins
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

    def points(self, origins: Origins) -> Floats:
        """Requests per step [origin, horizon]; see Expert.counts. Raises ColdStart."""


class WithSpread(Expert):
    """A forecaster out of points and of the quantiles of their errors, relative to the level."""

    def __init__(self, source: Points) -> None:
        self._source = source
        self._ledger: Ledger[list[float]] = Ledger()
        # Errors in rings, one a horizon: where the next one goes is how many there were.
        self._errors = np.zeros((len(HORIZONS), MEMORY))
        self._count = [0] * len(HORIZONS)
        self._rows: Floats | None = None
        self.name = source.name

    def counts(self, origins: Origins) -> Floats:
        """See Expert.counts."""
        now = origins.nows[0]
        for horizon, said, outcome in self._ledger.settle(origins.histories[0], origins.step_s, now):
            # Relative to what was said, with the noise of a count for a floor: levels move, shares stay. The first
            # request after a night of zeros is infinitely more than was said, and tells nothing of the day's errors.
            error = (outcome - said[horizon]) / (said[horizon] + 1.0)
            self._errors[horizon, self._count[horizon] % MEMORY] = min(error, ERROR_LIMIT)
            self._count[horizon] += 1
            self._rows = None
        points = self._source.points(origins)
        self._ledger.keep(now, points[0].tolist())
        return np.asarray(points[..., None] + self._spread(points, origins))

    def _spread(self, points: Floats, origins: Origins) -> Floats:
        fewest = min(self._count)
        if fewest < FEW:
            rows = persist(origins.histories)
            return np.asarray(rows - rows[..., [_MEDIAN]])
        if self._rows is None:
            if fewest >= MEMORY:
                self._rows = quantiles(self._errors)
            else:
                known = [errors[:count] for errors, count in zip(self._errors, self._count, strict=True)]
                self._rows = np.stack([quantiles(errors) for errors in known])
        return np.asarray(self._rows * (points[..., None] + 1.0))
