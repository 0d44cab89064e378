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
"""With fewer changes than this over a horizon, their empirical quantiles are too near: the spread is Student's t."""

UNKNOWN = 0.1
"""Usual change from step to step, as a share of the level, of a series of which no change is known yet."""

_LEVELS = np.asarray(QUANTILES)
_Z = np.array([-1.645, -0.674, 0.0, 0.674, 1.282, 1.645, 2.326])  # standard normal quantiles of QUANTILES


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
    rows = np.empty((*recent.shape[:-1], len(HORIZONS), len(QUANTILES)))
    for at, horizon in enumerate(HORIZONS):
        changes = recent[..., horizon:] - recent[..., :-horizon]
        if gaps:
            changes = _known(changes)
        if at == 0:
            single = changes
        if changes.shape[-1] >= FEW:
            rows[..., at, :] = quantiles(changes)
        else:
            # Independent changes add up as the root of their number: no evidence yet says otherwise.
            rows[..., at, :] = _of_few(single, last) * np.sqrt(horizon)
    return np.asarray(np.maximum(last[..., None] + rows, 0.0))


def _of_few(changes: Floats, last: Floats) -> Floats:
    """Quantiles of the next change, of the few known ones from step to step [..., change]: those of Student's t, to
    the first order in its degrees of freedom, with the noise of a count for the least spread."""
    count = changes.shape[-1]
    if not count:
        return np.asarray(_Z * np.maximum(np.sqrt(last + 1.0), UNKNOWN * last))
    usual = np.sqrt(np.vecdot(changes, changes) / count)[..., None]
    return np.asarray(_Z * (1.0 + (_Z**2 + 1.0) / (4.0 * count)) * np.maximum(usual, np.sqrt(last + 1.0)))


def quantiles(values: Floats) -> Floats:
    """QUANTILES of one or more values [..., value], linear between them: numpy's own takes five times as long."""
    return between(np.sort(values), _places(values.shape[-1]))


@lru_cache(maxsize=512)
def _places(size: int) -> Places:
    return places(size, _LEVELS * (size - 1))


def _known(values: Floats) -> Floats:
    """What is known along the last axis, of one series or of several without gaps."""
    return values[np.isfinite(values)].reshape(*values.shape[:-1], -1)
