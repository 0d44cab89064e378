"""Training windows: drawn from traces and synthetic series, varied so that one network serves every kind."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.predictor import features, synthetic
from services.predictor.features import LAGS, Encoded
from services.predictor.forecast import HORIZONS, Floats
from services.predictor.traces import TRAINING_SHARE, Trace, resample

FACTORS = (1, 2, 5, 10)
"""A trace is seen at its own bin width and at these multiples of it."""

SYNTHETIC_SHARE = 0.25
"""Share of windows that are drawn from synthetic series."""

TARGET_LIMIT = 30.0
"""Residuals are learned within this many usual changes: a flash crowd must not own the loss."""

_SPAN = LAGS + max(HORIZONS)
_AHEAD = np.array([LAGS - 1 + h for h in HORIZONS])


@dataclass(frozen=True)
class Batch:
    """encoded: the windows; residuals: what followed, [n, horizon]; weights: 0 where it is unknown."""

    encoded: Encoded
    residuals: Floats
    weights: Floats


class Corpus:
    """Draws batches; the same traces and seed give the same batches."""

    def __init__(self, traces: Sequence[Trace], seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._series: list[Floats] = []
        shares: list[float] = []
        for trace in traces:
            training = trace.counts[: int(len(trace.counts) * TRAINING_SHARE)]
            coarse = [resample(training, factor) for factor in FACTORS]
            long_enough = [counts for counts in coarse if len(counts) >= 3 * _SPAN]
            self._series += long_enough
            shares += [len(counts) ** 0.5 for counts in long_enough]
        made = [synthetic.series(self._rng, 600) for _ in range(1500)]
        real = (1 - SYNTHETIC_SHARE) if shares else 0.0
        weights = [share / sum(shares) * real for share in shares]
        weights += [(1 - real) / len(made)] * len(made)
        self._series += made
        self._weights = np.asarray(weights)

    def batch(self, size: int) -> Batch:
        """Draw `size` windows with what followed them."""
        rng = self._rng
        picks = rng.choice(len(self._series), size=size, p=self._weights)
        starts = rng.random(size)
        spans = np.empty((size, _SPAN))
        for row, (pick, start) in enumerate(zip(picks, starts, strict=True)):
            series = self._series[pick]
            first = int(start * (len(series) - _SPAN + 1))
            spans[row] = series[first : first + _SPAN]
        return vary(spans, rng)


def vary(spans: Floats, rng: np.random.Generator) -> Batch:
    """Thin, hide and encode spans of counts [n, LAGS + max(HORIZONS)].

    Thinning keeps each request with some probability: the same shape in a noisier, smaller flow. (Scaling
    alone would teach nothing: the features have no unit.) Hiding makes short histories and gaps.
    """
    n = len(spans)
    known = np.isfinite(spans)
    counts = np.where(known, spans, 0.0)
    # From a mean of at least 2 a step: thinner than that, there is nothing left to forecast.
    mean = counts[:, :LAGS].mean(axis=1)
    least = np.clip(2.0 / np.maximum(mean, 1e-9), 1e-5, 1.0)
    keep = np.exp(rng.uniform(np.log(least), 0.0))
    thin = (rng.random(n) < 0.35) & (mean > 2.0)
    counts[thin] = rng.binomial(np.rint(counts[thin]).astype(np.int64), keep[thin, None])
    counts[~known] = np.nan
    history, future = counts[:, :LAGS].copy(), counts[:, _AHEAD]
    steps = np.arange(LAGS)
    short = np.where(rng.random(n) < 0.15, rng.integers(0, LAGS - 8, n), 0)
    gap_at = np.where(rng.random(n) < 0.08, rng.integers(0, LAGS, n), LAGS)
    gap_end = gap_at + rng.integers(1, 12, n)
    hidden = (steps < short[:, None]) | ((steps >= gap_at[:, None]) & (steps < gap_end[:, None]))
    history[hidden] = np.nan
    encoded = features.encode(history)
    # All zeros before: whatever follows, the forecast is zero, and there is nothing to learn from it.
    learnable = np.isfinite(future) & (encoded.top > 0.0)[:, None]
    residuals = np.clip(encoded.residuals(np.nan_to_num(future)), -TARGET_LIMIT, TARGET_LIMIT)
    return Batch(encoded, residuals, learnable.astype(np.float64))
