"""Conformal calibration: quantiles that are moved, outcome by outcome, until they cover what they say.

Each quantile at each horizon has an offset in units of the forecast's own width. An outcome above it moves it up,
one below moves it down, by steps whose balance is the quantile's level: over time that share of outcomes lies
below it, whatever the series does. (Quantile tracking: Angelopoulos, Candès & Tibshirani 2023, Conformal PID;
adaptive conformal inference: Gibbs & Candès 2021.)
"""

from collections.abc import Sequence

import numpy as np

from services.predictor.forecast import HORIZONS, QUANTILES, Floats

STEP = 0.02
"""Widths that a quantile moves by for an outcome on its far side, once it has seen many."""

EAGER = 0.2
"""And that the outer ones move by at the start; it falls to STEP as outcomes come."""

SETTLED = 60.0
"""Outcomes after which half of the difference is gone."""

MEDIAN_SHARE = 0.25
"""The median moves by so much less: a calibrated median that trembles is a worse forecast."""

YOUNG = 0.25
"""Widths by which the outer quantiles start wider, times the root of the horizon: of a new series nobody knows how far
it drifts."""

USUAL = 1.2
"""Mean error, in widths, of a forecast whose width is right (a normal one's). Beyond twice that, steps are longer."""

ERROR_KEPT = 0.97
"""Weight of an error an outcome later."""

ERROR_LIMIT = 6.0
"""Widths that one error counts for at most: a crowd that nobody announced must not make every step a leap."""

LIMIT = 10.0
"""Widths that a quantile may be moved by."""

_LEVELS = np.asarray(QUANTILES)
_MEDIAN = QUANTILES.index(0.5)
_LOW, _HIGH = QUANTILES.index(0.25), QUANTILES.index(0.75)
_SHARE = np.where(_LEVELS == 0.5, MEDIAN_SHARE, 1.0)
_OUTER = np.abs(_LEVELS - 0.5) > 0.3  # capacity is planned by these; the inner ones are worse for every haste
_TAILS = np.array([-1.0, 0.0, 0.0, 0.0, 0.75, 1.0, 1.5])


class Calibration:
    """Offsets [horizon, quantile]; rows are requests per second or any other unit."""

    def __init__(self) -> None:
        self.offsets = YOUNG * np.outer(np.sqrt(HORIZONS), _TAILS)
        self._seen = np.zeros(len(HORIZONS))
        self._error = np.full(len(HORIZONS), USUAL)

    def apply(self, rows: Floats) -> Floats:
        """Rows [..., horizon, quantile] calibrated: ascending, never negative."""
        return np.sort(np.maximum(rows + self.offsets * widths(rows)[..., None], 0.0), axis=-1)

    def learn(self, horizons: Sequence[int], raw: Floats, came: Floats) -> None:
        """Take what came, [outcome], of the rows `raw` [outcome, quantile] as they were before `apply`.

        horizons: of each outcome, an index; none of them twice.
        """
        at = list(horizons)
        outcome = came[:, None]
        width, offsets, error = widths(raw), self.offsets[at], self._error[at]
        said = raw + offsets * width[:, None]
        there = width > 0.0
        off = np.minimum(np.abs(came - said[:, _MEDIAN]) / np.where(there, width, 1.0), ERROR_LIMIT)
        error = np.where(there, ERROR_KEPT * error + (1 - ERROR_KEPT) * off, error)
        self._error[at] = error
        self._seen[at] += 1.0
        young = (EAGER - STEP) / (1.0 + self._seen[at] / SETTLED)
        step = STEP * _SHARE + young[:, None] * _OUTER
        step *= np.maximum(error / USUAL - 1.0, 1.0)[:, None]
        # Exactly on a quantile counts for its level: a constant series sits on all of them.
        below = np.where(np.abs(outcome - said) <= 1e-9 + 1e-6 * np.abs(said), _LEVELS, outcome < said)
        moved = offsets + step * (_LEVELS - below)
        self.offsets[at] = np.minimum(np.maximum(moved, -LIMIT), LIMIT)


def widths(rows: Floats) -> Floats:
    """Width of each row [..., quantile], the unit of offsets: half of the distance of its middle quartiles."""
    return np.asarray(np.maximum((rows[..., _HIGH] - rows[..., _LOW]) / 2.0, 1e-3 * rows[..., _MEDIAN]))
