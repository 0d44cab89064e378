"""Synthetic traffic: intensities of many kinds, made to teach the forecaster what no trace at hand shows."""

from collections.abc import Callable

import numpy as np

from services.predictor.forecast import Floats

Rng = np.random.Generator


def sines(rng: Rng, steps: int) -> Floats:
    """One to three sines of random period (8 to 400 steps) over a level; never negative."""
    t = np.arange(steps)
    wave = np.ones(steps)
    for _ in range(rng.integers(1, 4)):
        period = np.exp(rng.uniform(np.log(8), np.log(400)))
        wave += rng.uniform(0.1, 0.9) * np.sin(2 * np.pi * (t / period + rng.random()))
    return np.maximum(wave, rng.uniform(0.0, 0.2))


def ramps(rng: Rng, steps: int) -> Floats:
    """A level that rises and falls in straight lines, with flat parts and steps between them."""
    knots = np.sort(rng.choice(steps, size=max(steps // int(rng.integers(15, 80)), 3), replace=False))
    levels = np.exp(rng.normal(0.0, rng.uniform(0.2, 0.9), size=len(knots)))
    flat = rng.random(len(knots)) < 0.3
    levels[1:][flat[1:]] = levels[:-1][flat[1:]]
    return np.asarray(np.interp(np.arange(steps), knots, levels))


def bursts(rng: Rng, steps: int) -> Floats:
    """A level with bursts that rise at once or over some steps and die away; regular or at random times."""
    level = np.ones(steps)
    length = int(rng.integers(2, 30))
    rise = int(rng.integers(0, 6))
    shape = np.concatenate([np.linspace(0, 1, rise + 1)[1:], np.exp(-np.arange(4 * length) / length)])
    period = int(rng.integers(12, 200))
    starts = np.arange(rng.integers(0, period), steps, period)
    if rng.random() < 0.5:
        starts = rng.integers(0, steps, size=len(starts) + 1)
    for start in starts.tolist():
        stop = min(start + len(shape), steps)
        level[start:stop] += rng.uniform(0.5, 8.0) * shape[: stop - start]
    return level


def levels(rng: Rng, steps: int) -> Floats:
    """Level shifts: constant, then suddenly another constant, up to ten times as high or low."""
    ends = np.flatnonzero(rng.random(steps) < rng.uniform(0.004, 0.03))
    parts = np.searchsorted(ends, np.arange(steps), side="right")
    return np.asarray(np.exp(rng.uniform(-1.2, 1.2, size=len(ends) + 1))[parts])


def walk(rng: Rng, steps: int) -> Floats:
    """A random walk of the log level that is pulled back to its mean."""
    log = np.zeros(steps)
    pull, size = rng.uniform(0.0, 0.1), float(np.exp(rng.uniform(np.log(0.005), np.log(0.3))))
    noise = rng.normal(0.0, size, steps)
    for t in range(1, steps):
        log[t] = (1 - pull) * log[t - 1] + noise[t]
    return np.asarray(np.exp(np.clip(log, -4, 4)))


def pulses(rng: Rng, steps: int) -> Floats:
    """On and off in turn, of random lengths: batch jobs, office hours, a client that retries."""
    on, off = rng.integers(3, 60, size=2)
    jitter = rng.random() < 0.5
    state: list[Floats] = []
    total = 0
    while total < steps:
        n_on, n_off = (rng.poisson(on) + 1, rng.poisson(off) + 1) if jitter else (on, off)
        state += [np.ones(n_on), np.full(n_off, rng.choice([0.0, 0.1, 0.4]))]
        total += int(n_on + n_off)
    return np.concatenate(state)[:steps]


KINDS: tuple[Callable[[Rng, int], Floats], ...] = (sines, ramps, bursts, levels, walk, pulses)
"""Every kind of intensity; each gives `steps` values around 1."""


def series(rng: Rng, steps: int) -> Floats:
    """A series of counts: one kind, or the product of two, at a random level, mostly with Poisson noise."""
    shape = KINDS[rng.integers(len(KINDS))](rng, steps)
    if rng.random() < 0.3:
        shape = shape * KINDS[rng.integers(len(KINDS))](rng, steps)
    intensity = shape * np.exp(rng.uniform(np.log(1.0), np.log(5000.0)))
    if rng.random() < 0.85:
        return np.asarray(rng.poisson(np.minimum(intensity, 1e7)), dtype=np.float64)
    return np.asarray(intensity)
