"""How good forecasts were: running sums that forget, and the losses they are made of."""

from collections.abc import Sequence

import numpy as np

from services.predictor.forecast import QUANTILES, Floats

_LEVELS = np.asarray(QUANTILES)
_MEDIAN = QUANTILES.index(0.5)
_Q95 = QUANTILES.index(0.95)

MEDIAN_WEIGHT = 3.0
"""How much more the median counts than another quantile where forecasters are told apart."""

_WEIGHTS = np.where(_LEVELS == 0.5, MEDIAN_WEIGHT, 1.0) / len(_LEVELS)

ERROR_MEMORY = 200.0
"""Outcomes after which an error weighs 1/e: some 40 steps, each with an outcome at every horizon."""

COVERAGE_MEMORY = 1500.0
"""The same for coverage, which needs many more outcomes to mean anything."""


def pinball(rows: Floats, outcome: Floats | float) -> Floats:
    """Pinball loss, mean over the quantiles, of rows [..., quantile] against what came [...]."""
    return np.asarray(_pinballs(rows, outcome).mean(axis=-1))


def loss(rows: Floats, outcome: Floats | float) -> Floats:
    """What forecasters are told apart by: as pinball, but the median, which is a forecast of its own, counts
    MEDIAN_WEIGHT times."""
    return np.asarray((_pinballs(rows, outcome) * _WEIGHTS).sum(axis=-1))


def _pinballs(rows: Floats, outcome: Floats | float) -> Floats:
    error = np.asarray(outcome)[..., None] - rows
    return np.asarray(np.maximum(_LEVELS * error, (_LEVELS - 1.0) * error))


def covered(rows: Floats, outcome: Floats | float) -> Floats:
    """Whether outcomes [...] are at most the 0.95 quantile of rows [..., quantile]."""
    # A microscopic tolerance: a constant series sits exactly on its quantiles, give or take a rounding.
    return np.asarray(outcome <= rows[..., _Q95] * (1 + 1e-6) + 1e-9)


class Record:
    """Running scores of one forecaster."""

    def __init__(self) -> None:
        self._absolute = self._naive = self._covered = self._count = 0.0

    def add(self, row: Sequence[float], outcome: float, naive: float) -> None:
        """Count a row [quantile] against what came; naive: absolute error of the last value on that origin."""
        fade = 1.0 - 1.0 / ERROR_MEMORY
        self._absolute = fade * self._absolute + abs(outcome - row[_MEDIAN])
        self._naive = fade * self._naive + naive
        fade = 1.0 - 1.0 / COVERAGE_MEMORY
        self._covered = fade * self._covered + float(outcome <= row[_Q95] * (1 + 1e-6) + 1e-9)
        self._count = fade * self._count + 1.0

    @property
    def mae_ratio(self) -> float | None:
        """Mean absolute error over that of the last value; None before the first outcome or without error."""
        return self._absolute / self._naive if self._naive > 0 else None

    @property
    def coverage_q95(self) -> float | None:
        """Share of outcomes at or below the 0.95 quantile; None before the first outcome."""
        return self._covered / self._count if self._count > 0 else None
