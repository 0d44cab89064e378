"""Normalisation of a history of counts, shared by training and serving.

A window of the last LAGS steps is expressed relative to a short exponentially weighted level, in log1p, as
the difference from its last step, divided by the window's own mean absolute change. So what the network sees
has no unit: a history k times as large gives the same features and, decoded, a forecast k times as large.
Predicting the residual over the last value in this domain is what keeps the forecast from being the last
value shifted by a step (Christofidi et al., SoCC 2023, find that in LSTMs on raw levels).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.predictor.forecast import HORIZONS, Floats
from services.predictor.seasons import Outlook

LAGS = 60
"""Steps in a window."""

CHANNELS = ("level", "change", "known")
"""Per step: level relative to the last step, change from the step before, 1 where the step was observed."""

CONTEXT = (
    *("log_scale", "last", "mean", "known_share"),
    *(f"season_{h}" for h in HORIZONS),
    *("season_above", "season_strength", "long_sin", "long_cos", "short_sin", "short_cos"),
)
"""Per window: size of a usual change; last step and mean against the level, log1p; share of known steps; what the
found periods say (see Outlook): changes to each horizon and how far they are above the last step, in usual changes;
their strength; phases. Zeros where no period is known."""

HALF_LIFE = 8.0
"""Half-life in steps of the level that a window is relative to."""

LEVEL_FLOOR = 0.05
"""The level is at least this share of the window's mean, or one lone burst long ago would dwarf it."""

SCALE_FLOOR = 1e-3
"""Least mean absolute change (log1p): a constant series has none to divide by."""

FEATURE_LIMIT = 20.0
"""Features are kept within this many usual changes; residuals are not."""

GROWTH_LIMIT = 10.0
"""No quantile exceeds this many times the largest count in the window: exp() of a wild residual would."""

Float32s = NDArray[np.float32]

_AGE = np.arange(LAGS - 1, -1, -1, dtype=np.float64)
_WEIGHTS = 0.5 ** (_AGE / HALF_LIFE)


@dataclass(frozen=True)
class Encoded:
    """Windows as the network sees them, and what turns its answer back into counts; n windows side by side.

    window: [n, LAGS, channel]; context: [n, feature]; level, scale, last, top: [n].
    """

    window: Float32s
    context: Float32s
    level: Floats
    scale: Floats
    last: Floats
    top: Floats

    def residuals(self, counts: Floats) -> Floats:
        """Future counts [n, ...] as residuals over the last step, in usual changes: what is learned."""
        shape = (-1,) + (1,) * (counts.ndim - 1)
        log = np.log1p(counts / self.level.reshape(shape))
        return np.asarray((log - self.last.reshape(shape)) / self.scale.reshape(shape))

    def counts(self, residuals: NDArray[np.floating]) -> Floats:
        """Residuals [n, ...] back as counts, never negative, at most GROWTH_LIMIT x the window's largest."""
        shape = (-1,) + (1,) * (residuals.ndim - 1)
        level, top = self.level.reshape(shape), self.top.reshape(shape)
        log = residuals.astype(np.float64) * self.scale.reshape(shape) + self.last.reshape(shape)
        # Bounded before exp() as well as after it: infinity times a level of zero would be NaN.
        counts = level * np.expm1(np.minimum(log, 300.0))
        return np.asarray(np.minimum(np.maximum(counts, 0.0), GROWTH_LIMIT * top))


def encode(histories: Floats, outlooks: Sequence[Outlook | None] | None = None) -> Encoded:
    """Normalise windows of counts [n, steps], oldest first, NaN where unknown, `steps` of any length.

    outlooks: for each window what the found periods say at its end; None where none are known.

    The last LAGS steps are used; a shorter history counts as unknown before its start. A gap keeps the last
    known count and is marked as unknown. Negative counts read as zero. Nothing that comes out is NaN.
    Raises ValueError when `histories` is not two-dimensional.
    """
    if histories.ndim != 2:
        raise ValueError(f"histories must be [windows, steps], got {histories.ndim} dimension(s)")
    counts, known = _fill(_last_lags(histories))
    share = known.mean(axis=1)
    weights = _WEIGHTS * known
    level = (counts * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-12)
    mean = (counts * known).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    level = np.maximum(level, LEVEL_FLOOR * mean)
    top = (counts * known).max(axis=1)
    level = np.where(level > 0.0, level, 1.0)  # all zeros: `top` is zero too, so is every forecast

    log = np.log1p(counts / level[:, None])
    change = np.zeros_like(log)
    np.subtract(log[:, 1:], log[:, :-1], out=change[:, 1:])
    both = np.zeros_like(known)
    np.logical_and(known[:, 1:], known[:, :-1], out=both[:, 1:])
    size = (np.abs(change) * both).sum(axis=1) / np.maximum(both.sum(axis=1), 1)
    scale = np.maximum(size, SCALE_FLOOR)
    last = log[:, -1]

    window = np.empty((*log.shape, len(CHANNELS)), dtype=np.float32)
    window[:, :, 0] = _limited((log - last[:, None]) / scale[:, None]) * known
    window[:, :, 1] = _limited(change / scale[:, None]) * both
    window[:, :, 2] = known
    context = np.zeros((len(counts), len(CONTEXT)), dtype=np.float32)
    own = (np.log(scale) + 2.0, last - np.log(2.0), np.log1p(mean / level) - np.log(2.0), share)
    for column, feature in enumerate(own):
        context[:, column] = feature
    told = [(row, outlook) for row, outlook in enumerate(outlooks or ()) if outlook is not None]
    if told:
        rows = [row for row, _ in told]
        context[rows, len(own) :] = _seasonal([one for _, one in told], counts[rows, -1], scale[rows])
    return Encoded(window, context, level, scale, last, top)


def _seasonal(outlooks: Sequence[Outlook], last: Floats, scale: Floats) -> Floats:
    said = np.array([(*one.changes, one.expected, one.strength, *one.phases) for one in outlooks])
    ahead = said[:, : len(HORIZONS) + 1]
    ahead[:, -1] -= np.log1p(last / np.array([one.level for one in outlooks]))
    ahead[:] = _limited(ahead / scale[:, None])
    return said


def _limited(features: Floats) -> Floats:
    # np.clip asks so much of its arguments that it takes several times as long for a window.
    return np.asarray(np.minimum(np.maximum(features, -FEATURE_LIMIT), FEATURE_LIMIT))


def _last_lags(histories: Floats) -> Floats:
    tail = histories[:, -LAGS:].astype(np.float64)
    missing = LAGS - tail.shape[1]
    return np.pad(tail, ((0, 0), (missing, 0)), constant_values=np.nan) if missing else tail


def _fill(counts: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Counts with gaps filled forward (those before the first known step, backward), and what was known."""
    known = np.isfinite(counts)
    if known.all():
        return np.maximum(counts, 0.0), known
    at = np.where(known, np.arange(counts.shape[1]), -1)
    at = np.maximum.accumulate(at, axis=1)
    first = np.argmax(known, axis=1)
    at = np.where(at < 0, first[:, None], at)
    filled = np.take_along_axis(np.where(known, counts, 0.0), at, axis=1)
    return np.maximum(filled, 0.0), known
