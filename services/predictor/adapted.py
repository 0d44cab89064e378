"""The LSTM adapted to this very series: a readout of its state, learned while it serves.

A ridge regression, refreshed each step, of what the network's median missed, in its own units, on the state that
it was in and on what the found periods said. Old evidence fades; without evidence the readout is zero and the
answer the network's.
"""

from time import perf_counter
from typing import NamedTuple

import numpy as np

from services.predictor.features import CONTEXT, Encoded
from services.predictor.forecast import HORIZONS, QUANTILES, Floats, Forecast
from services.predictor.lstm import Lstm
from services.predictor.origins import Ledger

MEMORY = 1500.0
"""Steps after which evidence weighs 1/e."""

RIDGE = 200.0
"""Steps of evidence that zero is worth; for far horizons, whose outcomes overlap, times the root of their steps."""

REFRESH = 4
"""Origins for which a readout is used."""

LIMIT = 6.0
"""Misses count up to so many usual changes."""

SEASON = [CONTEXT.index(name) for name in (*(f"season_{h}" for h in HORIZONS), "season_above")]
"""Places of what the found periods say in the context."""

_MEDIAN = QUANTILES.index(0.5)


class Seen(NamedTuple):
    """What is needed to learn from one origin: regressors [horizon, regressor], the network's medians."""

    regressors: Floats
    encoded: Encoded
    medians: Floats


class Adapted:
    """See Forecaster. It asks the network only where that was not asked at this very origin."""

    name = "adapted"

    def __init__(self, lstm: Lstm) -> None:
        self._lstm = lstm
        self._ledger: Ledger[Seen] = Ledger()
        self._gram: Floats | None = None
        self._moment: Floats = np.zeros(0)
        self._readout: Floats = np.zeros(0)
        self._origins = self._refreshed = 0
        self._keep = float(np.exp(-1.0 / MEMORY))

    def forecast(self, history: Floats, step_s: float, now: float) -> Forecast:
        """See Forecaster.forecast. ColdStart where the network has one."""
        started = perf_counter()
        for horizon, seen, outcome in self._ledger.settle(history, step_s, now):
            self._learn(horizon, seen, outcome)
        read = self._lstm.read(history, step_s, now)
        medians = read.residuals[:, _MEDIAN].astype(np.float64)
        regressors = _regressors(read.state.astype(np.float64), read.encoded, medians)
        if self._gram is None:
            size = regressors.shape[1]
            self._gram, self._moment = np.zeros((len(HORIZONS), size, size)), np.zeros((len(HORIZONS), size))
            self._readout = np.zeros((len(HORIZONS), size))
        if self._ledger.due(now):
            self._origins += 1
        if self._origins % REFRESH == 0 and self._refreshed != self._origins:
            self._refreshed = self._origins
            pull = RIDGE * np.sqrt(HORIZONS)[:, None, None] * np.eye(regressors.shape[1])
            solved = np.linalg.solve(self._gram + pull, self._moment[:, :, None])
            self._readout = np.asarray(solved[:, :, 0], dtype=np.float64)
        self._ledger.keep(now, Seen(regressors, read.encoded, medians))
        moved = np.clip((regressors * self._readout).sum(axis=1), -LIMIT, LIMIT)
        return Forecast.from_counts(
            read.encoded.counts(read.residuals[None] + moved[None, :, None])[0],
            model=self.name,
            history=history,
            step_s=step_s,
            now=now,
            compute_ms=(perf_counter() - started) * 1e3,
        )

    def _learn(self, horizon: int, seen: Seen, outcome: float) -> None:
        assert self._gram is not None  # noqa: S101  # made before anything was kept
        came = float(seen.encoded.residuals(np.array([[outcome]]))[0, 0])
        missed = float(np.clip(came - seen.medians[horizon], -LIMIT, LIMIT))
        x = seen.regressors[horizon]
        self._gram[horizon] = self._keep * self._gram[horizon] + np.outer(x, x)
        self._moment[horizon] = self._keep * self._moment[horizon] + missed * x


def _regressors(state: Floats, encoded: Encoded, medians: Floats) -> Floats:
    """[horizon, regressor]: one, the network's median, what the periods say, the state."""
    season = encoded.context[0, SEASON]
    own = [
        np.concatenate([[1.0, medians[h], season[h], season[-1]], state]).clip(-8.0, 8.0)
        for h in range(len(HORIZONS))
    ]
    return np.stack(own)
