"""Training windows: drawn from traces and synthetic series, varied so that one network serves every kind."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from services.predictor import features, synthetic
from services.predictor.features import LAGS, Encoded
from services.predictor.forecast import HORIZONS, Floats
from services.predictor.seasons import Outlook, Seasons
from services.predictor.traces import TRAINING_SHARE, Trace, resample

FACTORS = (1, 2, 5, 10)
"""A trace is seen at its own bin width and at these multiples of it."""

SYNTHETIC_SHARE = 0.25
"""Share of windows that are drawn from synthetic series."""

SYNTHETIC_SERIES, SYNTHETIC_STEPS = 600, 900
"""How many there are, and how long."""

UNAWARE = 0.25
"""Share of windows whose periods are hidden: the network has to do without as well."""

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

    def __init__(
        self,
        traces: Sequence[Trace],
        seed: int,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """progress: told how many series are prepared, of how many."""
        self._rng = np.random.default_rng(seed)
        steps: list[tuple[Floats, float]] = []
        shares: list[float] = []
        for trace in traces:
            training = trace.counts[: int(len(trace.counts) * TRAINING_SHARE)]
            for factor in FACTORS:
                coarse = resample(training, factor)
                if len(coarse) >= 3 * _SPAN:
                    steps.append((coarse, trace.step_s * factor))
                    shares.append(len(coarse) ** 0.5)
        made = [synthetic.series(self._rng, SYNTHETIC_STEPS) for _ in range(SYNTHETIC_SERIES)]
        real = (1 - SYNTHETIC_SHARE) if shares else 0.0
        weights = [share / sum(shares) * real for share in shares]
        weights += [(1 - real) / len(made)] * len(made)
        self._weights = np.asarray(weights)
        steps += [(series, 1.0) for series in made]
        self._series = [series for series, _ in steps]
        self._outlooks: list[list[Outlook | None]] = []
        for done, (series, step_s) in enumerate(steps):
            progress(done, len(steps))
            self._outlooks.append(outlooks(series, step_s))
        progress(len(steps), len(steps))

    def batch(self, size: int) -> Batch:
        """Draw `size` windows with what followed them."""
        rng = self._rng
        picks = rng.choice(len(self._series), size=size, p=self._weights)
        starts = rng.random(size)
        spans = np.empty((size, _SPAN))
        known: list[Outlook | None] = []
        for row, (pick, start) in enumerate(zip(picks, starts, strict=True)):
            series = self._series[pick]
            first = int(start * (len(series) - _SPAN + 1))
            spans[row] = series[first : first + _SPAN]
            known.append(self._outlooks[pick][first + LAGS])
        return vary(spans, known, rng)


def outlooks(series: Floats, step_s: float) -> list[Outlook | None]:
    """What the periods found so far say at each step of a series: entry n is after n steps."""
    seasons = Seasons()
    found: list[Outlook | None] = [None]
    for end in range(1, len(series) + 1):
        found.append(seasons.observe(series[max(end - 2, 0) : end], step_s, end * step_s))
    return found


def vary(spans: Floats, known: Sequence[Outlook | None], rng: np.random.Generator) -> Batch:
    """Thin, hide and encode spans of counts [n, LAGS + max(HORIZONS)].

    Thinning keeps each request with some probability: the same shape in a noisier, smaller flow. (Scaling
    alone would teach nothing: the features have no unit.) Hiding makes short histories and gaps, and windows of
    which no period is known. known: what the found periods say at the end of each window.
    """
    n = len(spans)
    there = np.isfinite(spans)
    counts = np.where(there, spans, 0.0)
    # From a mean of at least 2 a step: thinner than that, there is nothing left to forecast.
    mean = counts[:, :LAGS].mean(axis=1)
    least = np.clip(2.0 / np.maximum(mean, 1e-9), 1e-5, 1.0)
    keep = np.exp(rng.uniform(np.log(least), 0.0))
    thin = (rng.random(n) < 0.35) & (mean > 2.0)
    counts[thin] = rng.binomial(np.rint(counts[thin]).astype(np.int64), keep[thin, None])
    counts[~there] = np.nan
    history, future = counts[:, :LAGS].copy(), counts[:, _AHEAD]
    steps = np.arange(LAGS)
    short = np.where(rng.random(n) < 0.15, rng.integers(0, LAGS - 8, n), 0)
    gap_at = np.where(rng.random(n) < 0.08, rng.integers(0, LAGS, n), LAGS)
    gap_end = gap_at + rng.integers(1, 12, n)
    hidden = (steps < short[:, None]) | ((steps >= gap_at[:, None]) & (steps < gap_end[:, None]))
    history[hidden] = np.nan
    aware = rng.random(n) >= UNAWARE
    told = [
        replace(outlook, level=outlook.level * (share if thinned else 1.0)) if outlook and sees else None
        for outlook, sees, thinned, share in zip(known, aware, thin, keep, strict=True)
    ]
    encoded = features.encode(history, told)
    # All zeros before: whatever follows, the forecast is zero, and there is nothing to learn from it.
    learnable = np.isfinite(future) & (encoded.top > 0.0)[:, None]
    residuals = np.clip(encoded.residuals(np.nan_to_num(future)), -TARGET_LIMIT, TARGET_LIMIT)
    return Batch(encoded, residuals, learnable.astype(np.float64))
