"""Persistence: the last level goes on, with the spread of the series' own past changes.

The yardstick that every forecaster has to beat, and what answers while there is too little history for
anything else. Its quantiles are empirical: quantiles of the changes over h steps that this series has shown.
"""

from time import perf_counter

import numpy as np

from services.predictor.forecast import HORIZONS, QUANTILES, ColdStart, Floats, Forecast

MEMORY = 240
"""Past steps whose changes are looked at."""

FEW = 10
"""With fewer changes than this over a horizon, the spread is at least that of a Poisson count."""

# Standard normal quantiles of QUANTILES, for the Poisson spread.
_Z = np.array([-1.645, -0.674, 0.0, 0.674, 1.282, 1.645, 2.326])


class Persistence:
    """Last value plus empirical quantiles of own past changes, one horizon at a time."""

    name = "persistence"

    def forecast(self, history: Floats, step_s: float, now: float) -> Forecast:
        """See Forecaster.forecast. One known step is enough; ColdStart when there is none."""
        started = perf_counter()
        counts = persist(history)
        return Forecast.from_counts(
            counts,
            model=self.name,
            history=history,
            step_s=step_s,
            now=now,
            compute_ms=(perf_counter() - started) * 1e3,
        )


def persist(history: Floats) -> Floats:
    """Requests per step [horizon, quantile] for `history` (counts, oldest first, NaN where unknown)."""
    recent = history[-MEMORY:]
    known = np.flatnonzero(np.isfinite(recent))
    if not known.size:
        raise ColdStart("persistence needs one known step, the history has none")
    last = max(float(recent[known[-1]]), 0.0)
    poisson = _Z * np.sqrt(last + 1.0)
    rows: list[Floats] = []
    row, covered = poisson, 1
    for horizon in HORIZONS:
        changes = recent[horizon:] - recent[:-horizon]
        changes = changes[np.isfinite(changes)]
        if changes.size >= FEW:
            row = quantiles(changes)
        elif changes.size:
            own = quantiles(changes)
            row = np.where(_Z < 0, np.minimum(own, poisson), np.maximum(own, poisson))
        else:
            # Independent changes add up as the root of their number: no evidence yet says otherwise.
            row = row * np.sqrt(horizon / covered)
        covered = horizon
        rows.append(row)
    return np.maximum(last + np.stack(rows), 0.0)


def quantiles(values: Floats) -> Floats:
    """QUANTILES of one or more values, linear between them: numpy's own takes five times as long."""
    ordered = np.sort(values)
    return np.asarray(np.interp(np.asarray(QUANTILES) * (ordered.size - 1), np.arange(ordered.size), ordered))
