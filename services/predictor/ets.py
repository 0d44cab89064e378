"""Exponential smoothing: a bank of Holt's methods with a damped trend, of which the one with the least error answers.

With its constants given, Holt's forecast is a weighted sum of the past, so the bank is one matrix: it is asked
by one product, needs no fit, and gaps and restarts leave no trace in it. (Hyndman & Athanasopoulos, Forecasting:
Principles and Practice, 3rd ed., 8.2.)
"""

import numpy as np

from services.predictor.forecast import HORIZONS, Floats, Origins
from services.predictor.origins import Ledger, rounds
from services.predictor.relative import relative

MEMORY = 240
"""Steps that it looks at."""

LEAST = 8
"""Known steps before it answers."""

LEVELS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0)
"""Smoothing of the level, alpha."""

TRENDS = ((0.0, 1.0), (0.05, 0.9), (0.05, 0.98), (0.2, 0.8), (0.2, 0.95))
"""Smoothing of the trend and its damping, beta and phi; a beta of 0 is no trend."""

FADE = 0.985
"""Weight of an error a step later."""


def _bank() -> Floats:
    """Weights [method, horizon, MEMORY] of the past, oldest first, relative to the oldest step."""
    weights = []
    for alpha in LEVELS:
        for beta, phi in TRENDS:
            level, trend = np.zeros(MEMORY), np.zeros(MEMORY)
            for at in range(MEMORY):
                # The effect of each step so far on level and trend; step `at` enters with alpha.
                ahead = level + phi * trend
                new = (1 - alpha) * ahead
                new[at] += alpha
                trend = beta * (new - level) + (1 - beta) * phi * trend
                level = new
            weights.append([level + trend * sum(phi**i for i in range(1, h + 1)) for h in HORIZONS])
    return np.asarray(weights)


class Ets:
    """See Points."""

    name = "ets"

    def __init__(self) -> None:
        self._bank = _bank()
        self._flat = self._bank.reshape(-1, MEMORY)
        self._ledger: Ledger[tuple[Floats, float, float]] = Ledger()
        self._errors = np.zeros(self._bank.shape[:2])

    def points(self, origins: Origins) -> Floats:
        """See Points.points. ColdStart below LEAST known steps."""
        series = relative(origins.histories, MEMORY, LEAST)
        now = origins.nows[0]
        for settled in rounds(self._ledger.settle(origins.histories[0], origins.step_s, now)):
            at = [one.horizon for one in settled]
            said = np.stack([one.said[0][:, one.horizon] for one in settled], axis=1)
            came, level, size = np.array([(one.outcome, *one.said[1:]) for one in settled]).T
            error = np.abs(said - np.log1p(came / level)) / size
            self._errors[:, at] = FADE * self._errors[:, at] + np.minimum(error, 10.0)
        log = series.log()
        first = log[:, :1]
        past = np.zeros((len(log), MEMORY))
        past[:, MEMORY - log.shape[1] :] = log - first
        if self._ledger.due(now):
            every = (self._flat @ past[0]).reshape(self._errors.shape) + first[0]
            usual = float(np.abs(np.diff(log[0, -60:])).mean()) + 1e-3
            self._ledger.keep(now, (every, float(series.level[0, 0]), usual))
        # Of one method, errors at all horizons count: it takes long until ten steps ahead have told much.
        pooled = self._errors + self._errors.mean(axis=1, keepdims=True)
        best = (
            np.argmin(pooled, axis=0)
            if pooled.any()
            else np.full(len(HORIZONS), LEVELS.index(0.35) * len(TRENDS))
        )
        chosen = self._bank[best, np.arange(len(HORIZONS))]
        return series.counts(np.matmul(chosen, past[:, :, None])[:, :, 0] + first)
