"""Autoregression, fitted on the series' own last steps: the challenger that needs no training.

Direct: one regression per horizon of the change to come on the last changes and on slow averages, in logs, with
a ridge that pulls towards persistence.
"""

import numpy as np

from services.predictor.forecast import HORIZONS, Floats, Origins
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

    def points(self, origins: Origins) -> Floats:
        """See Points.points. ColdStart below LEAST known steps."""
        series = relative(origins.histories, MEMORY, LEAST)
        step_s, now = origins.step_s, origins.nows[0]
        if (
            self._fitted is None
            or self._fitted[0] != step_s
            or not 0 <= now - self._fitted[1] < REFIT * step_s
        ):
            log = series.log()[0]
            self._fitted = (step_s, now, _fit(_regressors(log), log))
        log = series.log(SPAN)
        change = np.matmul(_last_regressors(log)[:, None, :], self._fitted[2])[:, 0]
        return series.counts(log[:, -1:] + change)


def _regressors(log: Floats) -> Floats:
    """For each step from ORDER on: what is known at its end, relative to it, [steps, regressor]."""
    lags = np.lib.stride_tricks.sliding_window_view(log, ORDER + 1)
    now = lags[:, -1:]
    slow = np.stack([_average(log, *one)[ORDER:] for one in _FILTERS], axis=1)
    return np.concatenate([lags[:, :-1] - now, slow - now, np.full((len(now), 1), 0.1)], axis=1)


def _last_regressors(logs: Floats) -> Floats:
    """Those of the last step of series side by side, [series, regressor]."""
    now = logs[:, -1:]
    slow = []
    for weights, total in _FILTERS:
        steps = min(len(weights), logs.shape[1])
        sums = np.vecdot(logs[:, -steps:], weights[len(weights) - steps :])
        slow.append(sums / total[steps - 1])
    return np.concatenate(
        [logs[:, -1 - ORDER : -1] - now, np.stack(slow, axis=1) - now, np.full((len(logs), 1), 0.1)], axis=1
    )


def _filters() -> list[tuple[Floats, Floats]]:
    """For each of SLOW its weights, those of the oldest step first, and their sums from the newest on."""
    weights = [0.5 ** (np.arange(int(CUT * half_life)) / half_life) for half_life in SLOW]
    return [(one[::-1].copy(), np.cumsum(one)) for one in weights]


_FILTERS = _filters()


def _average(log: Floats, weights: Floats, total: Floats) -> Floats:
    """Exponentially weighted mean up to each step, by a filter cut off where its weights end."""
    sums = np.convolve(log, weights[::-1])[: len(log)]
    return np.asarray(sums / total[np.minimum(np.arange(len(log)), len(weights) - 1)])


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
