"""Conformal calibration: quantiles that are moved, outcome by outcome, until they cover what they say.

Each quantile at each horizon has an offset in units of the forecast's own width. An outcome above it moves it up,
one below moves it down, by steps whose balance is the quantile's level: over time that share of outcomes lies
below it, whatever the series does. (Quantile tracking: Angelopoulos, Candès & Tibshirani 2023, Conformal PID;
adaptive conformal inference: Gibbs & Candès 2021.)
"""

import numpy as np

from services.predictor.forecast import HORIZONS, QUANTILES, Floats

STEP = 0.02
"""Widths that a quantile moves by for an outcome on its far side, once it has seen many."""

EAGER = 0.15
"""And at the start; it falls to STEP as outcomes come."""

SETTLED = 60.0
"""Outcomes after which half of the difference is gone."""

MEDIAN_SHARE = 0.25
"""The median moves by so much less: a calibrated median that trembles is a worse forecast."""

LIMIT = 8.0
"""Widths that a quantile may be moved by."""

_LEVELS = np.asarray(QUANTILES)
_MEDIAN = QUANTILES.index(0.5)
_LOW, _HIGH = QUANTILES.index(0.25), QUANTILES.index(0.75)
_SHARE = np.where(_LEVELS == 0.5, MEDIAN_SHARE, 1.0)


class Calibration:
    """Offsets [horizon, quantile]; rows are requests per second or any other unit."""

    def __init__(self) -> None:
        self.offsets = np.zeros((len(HORIZONS), len(QUANTILES)))
        self._seen = np.zeros(len(HORIZONS))

    def apply(self, rows: Floats) -> Floats:
        """Rows [horizon, quantile] calibrated: ascending, never negative."""
        return np.sort(np.maximum(rows + self.offsets * widths(rows)[:, None], 0.0), axis=1)

    def learn(self, horizon: int, said: Floats, outcome: float) -> None:
        """Take an outcome of the row `said` [quantile] that `apply` had given at `horizon` (an index)."""
        self._seen[horizon] += 1.0
        step = STEP + (EAGER - STEP) / (1.0 + self._seen[horizon] / SETTLED)
        # Exactly on a quantile counts for its level: a constant series sits on all of them.
        below = np.where(np.abs(outcome - said) <= 1e-9 + 1e-6 * said, _LEVELS, outcome < said)
        moved = self.offsets[horizon] + step * _SHARE * (_LEVELS - below)
        self.offsets[horizon] = np.clip(moved, -LIMIT, LIMIT)


def widths(rows: Floats) -> Floats:
    """Width of each row [horizon, quantile], the unit of offsets: half of the distance of its middle quartiles."""
    return np.asarray(np.maximum((rows[:, _HIGH] - rows[:, _LOW]) / 2.0, 1e-3 * rows[:, _MEDIAN]))
