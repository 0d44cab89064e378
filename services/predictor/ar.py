"""Autoregression, fitted on the series' own last steps: the challenger that needs no training.

Direct: one regression per horizon of the change to come on the last changes and on slow averages, in logs, with
a ridge that pulls towards persistence.
"""

import numpy as np

from services.predictor.forecast import HORIZONS, Floats
from services.predictor.relative import relative

MEMORY = 1440
"""Steps that it is fitted on, where there are so many."""

LEAST = 40
"""Known steps before it answers."""

ORDER = 8
"""Single steps looked back at."""

SLOW = (6.0, 16.0, 48.0)
"""Half-lives, in steps, of the averages looked at beside them."""

CUT = 6
"""Half-lives after which an average's weights end."""

SPAN = int(CUT * max(SLOW)) + 1
"""Steps that the regressors of the last step are made of."""

REFIT = 12
"""Steps for which a fit is used."""

RIDGE = 30.0
"""Weight of the pull towards persistence, in steps' worth of evidence."""


class Ar:
    """See Points."""

    name = "ar"

    def __init__(self) -> None:
        self._fitted: tuple[float, float, Floats] | None = None

    def points(self, history: Floats, step_s: float, now: float) -> Floats:
        """See Points.points. ColdStart below LEAST known steps."""
        series = relative(history, MEMORY, LEAST)
        if (
            self._fitted is None
            or self._fitted[0] != step_s
            or not 0 <= now - self._fitted[1] < REFIT * step_s
        ):
            self._fitted = (step_s, now, _fit(_regressors(series.log), series.log))
        change = _regressors(series.log[-SPAN:])[-1] @ self._fitted[2]
        return series.counts(series.log[-1] + change)


def _regressors(log: Floats) -> Floats:
    """For each step from ORDER on: what is known at its end, relative to it, [steps, regressor]."""
    lags = np.lib.stride_tricks.sliding_window_view(log, ORDER + 1)
    now = lags[:, -1:]
    slow = np.stack([_average(log, half_life)[ORDER:] for half_life in SLOW], axis=1)
    return np.concatenate([lags[:, :-1] - now, slow - now, np.full((len(now), 1), 0.1)], axis=1)


def _average(log: Floats, half_life: float) -> Floats:
    """Exponentially weighted mean up to each step, by a filter cut off where its weights end."""
    weights = 0.5 ** (np.arange(int(CUT * half_life)) / half_life)
    sums = np.convolve(log, weights)[: len(log)]
    return np.asarray(sums / np.cumsum(weights)[np.minimum(np.arange(len(log)), len(weights) - 1)])


def _fit(regressors: Floats, log: Floats) -> Floats:
    """Coefficients [regressor, horizon]."""
    now = log[ORDER:]
    found = []
    for horizon in HORIZONS:
        x = regressors[:-horizon]
        y = now[horizon:] - now[:-horizon]
        size = float(np.abs(y).mean()) or 1.0
        y = np.clip(y, -6 * size, 6 * size)  # one crash must not own the fit
        gram = x.T @ x
        pull = RIDGE * np.trace(gram) / len(x) / len(gram) + 1e-9
        found.append(np.linalg.solve(gram + pull * np.eye(len(gram)), x.T @ y))
    return np.stack(found, axis=1)
