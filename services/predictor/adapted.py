"""The LSTM adapted to this very series: a readout of its state, learned while it serves.

A ridge regression, refreshed each step, of what the network's median missed, in its own units, on the state that
it was in, on what the found periods said and on the time of day (a day is found as a period only after two and a half).
Old evidence fades; without evidence the readout is zero and the answer the network's.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from services.predictor.features import CONTEXT, Encoded
from services.predictor.forecast import HORIZONS, QUANTILES, Expert, Floats, Origins
from services.predictor.lstm import Lstm
from services.predictor.origins import Ledger, Settled

MEMORY = 1500.0
"""Steps after which evidence weighs 1/e."""

RIDGE = 200.0
"""Steps of evidence that zero is worth; for far horizons, whose outcomes overlap, times the root of their steps."""

REFRESH = 4
"""Origins for which a readout is used."""

LIMIT = 6.0
"""Misses count up to so many usual changes."""

CLOCK_SCALE = 2.0
"""Size of the waves that tell the time of day, beside a state of which no unit exceeds one."""

SEASON = [CONTEXT.index(name) for name in (*(f"season_{h}" for h in HORIZONS), "season_above")]
"""Places of what the found periods say in the context."""

_MEDIAN = QUANTILES.index(0.5)
_OWN = 4
_WAVES = (1, 2)  # of the day and of half of it
_DAY_S = 86400.0


class Seen(NamedTuple):
    """What is needed to learn from an origin, the first of `encoded`: regressors [horizon, regressor], the network's
    medians [horizon]."""

    regressors: Floats
    encoded: Encoded
    medians: Floats


class Adapted(Expert):
    """See Expert. It asks the network only where that was not asked at these very origins."""

    name = "adapted"

    def __init__(self, lstm: Lstm) -> None:
        self._lstm = lstm
        self._ledger: Ledger[Seen] = Ledger()
        self._gram: Floats | None = None
        self._moment: Floats = np.zeros(0)
        self._readout: Floats = np.zeros(0)
        self._origins = self._refreshed = 0
        self._keep = float(np.exp(-1.0 / MEMORY))

    def counts(self, origins: Origins) -> Floats:
        """See Expert.counts. ColdStart where the network has one."""
        now = origins.nows[0]
        self._learn(self._ledger.settle(origins.histories[0], origins.step_s, now))
        read = self._lstm.read(origins)
        medians = read.residuals[:, :, _MEDIAN].astype(np.float64)
        regressors = _regressors(read.state.astype(np.float64), read.encoded, medians, _clock(origins))
        if self._gram is None:
            size = regressors.shape[2]
            self._gram, self._moment = np.zeros((len(HORIZONS), size, size)), np.zeros((len(HORIZONS), size))
            self._readout = np.zeros((len(HORIZONS), size))
        if self._ledger.due(now):
            self._origins += 1
        if self._origins % REFRESH == 0 and self._refreshed != self._origins:
            self._refreshed = self._origins
            pull = RIDGE * np.sqrt(HORIZONS)[:, None, None] * np.eye(regressors.shape[2])
            solved = np.linalg.solve(self._gram + pull, self._moment[:, :, None])
            self._readout = np.asarray(solved[:, :, 0], dtype=np.float64)
        self._ledger.keep(now, Seen(regressors[0], read.encoded, medians[0]))
        moved = _limited((regressors * self._readout).sum(axis=2))
        return read.encoded.counts(read.residuals + moved[:, :, None])

    def _learn(self, settled: Sequence[Settled[Seen]]) -> None:
        if not settled:
            return
        assert self._gram is not None  # noqa: S101  # made before anything was kept
        came = [one.said.encoded.residuals(np.array([[one.outcome]]))[0, 0] for one in settled]
        missed = _limited(np.array(came) - np.array([one.said.medians[one.horizon] for one in settled]))
        for (horizon, seen, _), miss in zip(settled, missed.tolist(), strict=True):
            x, gram, moment = seen.regressors[horizon], self._gram[horizon], self._moment[horizon]
            gram *= self._keep
            gram += x[:, None] * x
            moment *= self._keep
            moment += miss * x


def _limited(misses: Floats) -> Floats:
    return np.asarray(np.minimum(np.maximum(misses, -LIMIT), LIMIT))


def _clock(origins: Origins) -> Floats:
    """[origin, wave]: the time of day, UTC. Each horizon's readout finds its own noon, so one time serves them all."""
    # One by one: numpy's sine of many need not be that of one to the last bit.
    angles = [2.0 * math.pi * now / _DAY_S for now in origins.nows]
    return CLOCK_SCALE * np.array([[f(k * a) for k in _WAVES for f in (math.sin, math.cos)] for a in angles])


def _regressors(state: Floats, encoded: Encoded, medians: Floats, clock: Floats) -> Floats:
    """[origin, horizon, regressor]: one, the network's median, what the periods say, the time of day, the state."""
    season = encoded.context[:, SEASON]
    state_from = _OWN + clock.shape[1]
    regressors = np.empty((*medians.shape, state_from + state.shape[1]))
    regressors[:, :, 0] = 1.0
    regressors[:, :, 1] = medians
    regressors[:, :, 2] = season[:, :-1]
    regressors[:, :, 3] = season[:, -1:]
    regressors[:, :, _OWN:state_from] = clock[:, None, :]
    regressors[:, :, state_from:] = state[:, None, :]
    np.minimum(np.maximum(regressors, -8.0, out=regressors), 8.0, out=regressors)
    return regressors
