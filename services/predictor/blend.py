"""How much each forecaster counts: exponential weights on rolling losses, per horizon.

A forecaster's loss (scores.loss) is taken relative to that of persistence on the same origins, so that a quiet night
and a busy noon weigh the same. A long memory tells who is better on this series; a short one takes the lead from
whom the series has just left. (Exponentially weighted experts: Cesa-Bianchi & Lugosi, Prediction, Learning, and
Games, 2006, ch. 2; aggregation of forecasts with it: Gaillard & Goude 2015.)
"""

from collections.abc import Sequence

import numpy as np

from services.predictor.forecast import HORIZONS, Floats

MEMORY = 250.0
"""Steps after which a loss weighs 1/e."""

SHORT_MEMORY = 8.0
"""The same for the short memory."""

RATE = 0.25
"""Nats that a forecaster loses for each remembered step on which it was as bad again as persistence."""

SHORT_RATE = 0.6
"""The same for the short memory."""

FAR = 4.0
"""Outcomes of far horizons overlap: `h` steps ahead they count 1 / (1 + (h - 1) / FAR)."""

LOSS_LIMIT = 4.0
"""One outcome counts for at most this many usual losses of persistence."""


class Blend:
    """Weights of `count` forecasters; `prior`: what each starts with."""

    def __init__(self, prior: Floats) -> None:
        count, far = len(prior), len(HORIZONS)
        self._prior = np.log(prior)[:, None]
        self._usual = np.zeros(far)
        self._long, self._short = np.zeros((count, far)), np.zeros((count, far))
        self._keep = np.exp(-1.0 / np.array([MEMORY, SHORT_MEMORY]))
        self._trust = 1.0 / (1.0 + (np.asarray(HORIZONS) - 1.0) / FAR)

    def learn(self, horizons: Sequence[int], losses: Floats, persistence: Floats) -> None:
        """Count outcomes at `horizons` (indices, none of them twice).

        losses: [forecaster, outcome], NaN for whom was not asked. persistence: its own, [outcome].
        """
        at = list(horizons)
        usual = self._usual[at]
        usual = np.where(usual == 0.0, persistence, 0.97 * usual + 0.03 * persistence)
        self._usual[at] = usual
        there = usual > 0.0
        # Relative to persistence on the same origin, so a hard hour does not count against those who are asked then.
        worse = (losses - persistence) / np.where(there, usual, 1.0)
        worse = np.minimum(np.maximum(worse, -LOSS_LIMIT), LOSS_LIMIT)
        asked = np.isfinite(losses) & there
        for memory, keep in ((self._long, self._keep[0]), (self._short, self._keep[1])):
            before = memory[:, at]
            memory[:, at] = np.where(asked, keep * before + worse, before)

    def weights(self, asked: Floats) -> Floats:
        """[forecaster, horizon], summing to one at each horizon; zero for those that are not `asked` (bool)."""
        # A horizon is judged by its own outcomes and, for a third, by those of all: near ones come sooner.
        regret = RATE * self._pooled(self._long) + SHORT_RATE * self._pooled(self._short)
        log = np.where(asked[:, None], self._prior - regret, -np.inf)
        weights = np.exp(log - log.max(axis=0))
        return np.asarray(weights / weights.sum(axis=0))

    def _pooled(self, sums: Floats) -> Floats:
        trusted = sums * self._trust
        return np.asarray((2.0 * trusted + trusted.mean(axis=1, keepdims=True)) / 3.0)
