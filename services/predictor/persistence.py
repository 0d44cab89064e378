"""Persistence: the last level goes on, with the spread of the series' own past changes.

The yardstick that every forecaster has to beat, and what answers while there is too little history for
anything else. Its quantiles are empirical: quantiles of the changes over h steps that this series has shown.
"""

from functools import lru_cache

import numpy as np

from services.predictor.forecast import HORIZONS, QUANTILES, ColdStart, Expert, Floats, Origins
from services.predictor.linear import Places, between, places

MEMORY = 240
"""Past steps whose changes are looked at."""

FEW = 10
"""With fewer changes than this over a horizon, the spread is at least that of a Poisson count."""

_LEVELS = np.asarray(QUANTILES)
# Standard normal quantiles of QUANTILES, for the Poisson spread.
_Z = np.array([-1.645, -0.674, 0.0, 0.674, 1.282, 1.645, 2.326])


class Persistence(Expert):
    """Last value plus empirical quantiles of own past changes, one horizon at a time."""

    name = "persistence"

    def counts(self, origins: Origins) -> Floats:
        """See Expert.counts. One known step is enough; ColdStart when there is none."""
        return persist(origins.histories)


def persist(history: Floats) -> Floats:
    """Requests per step [..., horizon, quantile] for counts [..., step], oldest first, NaN where unknown."""
    recent = history[..., -MEMORY:]
    gaps = not np.isfinite(recent).all()
    known = _known(recent) if gaps else recent
    if not known.size:
        raise ColdStart("persistence needs one known step, the history has none")
    last = np.maximum(known[..., -1:], 0.0)
    poisson = _Z * np.sqrt(last + 1.0)
    rows = np.empty((*recent.shape[:-1], len(HORIZONS), len(QUANTILES)))
    row, covered = poisson, 1
    for at, horizon in enumerate(HORIZONS):
        changes = recent[..., horizon:] - recent[..., :-horizon]
        if gaps:
            changes = _known(changes)
        if changes.shape[-1] >= FEW:
            row = quantiles(changes)
        elif changes.size:
            own = quantiles(changes)
            row = np.where(_Z < 0, np.minimum(own, poisson), np.maximum(own, poisson))
        else:
            # Independent changes add up as the root of their number: no evidence yet says otherwise.
            row = row * np.sqrt(horizon / covered)
        covered = horizon
        rows[..., at, :] = row
    return np.asarray(np.maximum(last[..., None] + rows, 0.0))


def quantiles(values: Floats) -> Floats:
    """QUANTILES of one or more values [..., value], linear between them: numpy's own takes five times as long."""
    return between(np.sort(values), _places(values.shape[-1]))


@lru_cache(maxsize=512)
def _places(size: int) -> Places:
    return places(size, _LEVELS * (size - 1))


def _known(values: Floats) -> Floats:
    """What is known along the last axis, of one series or of several without gaps."""
    return values[np.isfinite(values)].reshape(*values.shape[:-1], -1)
