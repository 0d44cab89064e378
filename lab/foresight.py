"""What a policy is told of the future in a simulated run: by the live service's forecaster, or by the load itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lab.load import WARM_UP_S, Load
from services.autoscaler.observation import ForecastView
from services.predictor.champion import CONTEXT_STEPS, TAIL_STEPS
from services.predictor.forecast import HORIZONS, QUANTILES, Forecaster, Origins

Floats = NDArray[np.float64]

KNOWN_EVERY_S = 10
"""Seconds between the instants at which `oracle` and `informed` know the load."""

# Standard normal quantiles of QUANTILES.
_Z = np.array([-1.645, -0.674, 0.0, 0.674, 1.282, 1.645, 2.326])


class Foresight(Protocol):
    """Forecasts of one run."""

    def view(self, second: int) -> ForecastView | None:
        """The newest forecast at the start of `second`; None before the first."""


class Blind:
    """Nothing is forecast."""

    def view(self, second: int) -> ForecastView | None:
        """None."""
        return None


@dataclass(frozen=True, slots=True, eq=False)
class Issued:
    """Forecasts of one load, one every `every_s` seconds from second `first_s` on, which may lie before 0.

    rates_rps: float32[n, horizon, quantile], NaN where the forecaster had nothing to say.
    """

    every_s: int
    step_s: float
    horizons_s: tuple[float, ...]
    rates_rps: NDArray[np.float32]
    first_s: int = 0


class Told:
    """Reads forecasts that were issued before the run; they depend on the arrivals alone and not on any policy."""

    def __init__(self, issued: Issued, began_at: float) -> None:
        self._issued = issued
        self._began_at = began_at
        self._first = self._stop = issued.first_s  # seconds that the view is of
        self._view: ForecastView | None = None

    def view(self, second: int) -> ForecastView | None:
        """See Foresight."""
        if not self._first <= second < self._stop:
            issued = self._issued
            at = (second - issued.first_s) // issued.every_s
            if at < 0:
                return None
            self._first = issued.first_s + at * issued.every_s
            self._stop = self._first + issued.every_s
            rows = issued.rates_rps[at].tolist()
            self._view = None
            if math.isfinite(rows[0][0]):
                self._view = ForecastView(
                    self._began_at + self._first,
                    issued.step_s,
                    issued.horizons_s,
                    QUANTILES,
                    tuple(map(tuple, rows)),
                )
        return self._view


def issue(
    forecaster: Forecaster,
    load: Load,
    *,
    step_s: int,
    every_s: int,
    reached: Callable[[int], None] = lambda seconds: None,
) -> Issued:
    """Ask the forecaster every `every_s` seconds, as the live service does, with windows that end at that second.

    step_s: length of its steps, seconds. Before a step's worth of arrivals is known, nothing is issued. reached: called
    now and then with how many seconds of the load are done.
    """
    before = len(load.before)
    total = np.concatenate(([0], np.cumsum(np.concatenate((load.before, load.arrivals)))))
    # Steps that end at every second, those of one second of a step side by side: windows are slices of them.
    ending = [np.diff(total[phase::step_s]).astype(np.float64) for phase in range(step_s)]
    first = -(min(WARM_UP_S, before) // every_s) * every_s
    ends = np.arange(before + first, before + len(load.arrivals), every_s)
    unknown = int(np.searchsorted(ends, step_s))
    rates = np.full((len(ends), len(HORIZONS), len(QUANTILES)), np.nan, dtype=np.float32)
    at, most = unknown, CONTEXT_STEPS
    for together in _together(ends[unknown:], step_s, every_s):
        steps = min(most, int(together[0]) // step_s)
        lasts, phases = np.divmod(together, step_s)
        windows = [
            ending[phase][last - steps : last]
            for last, phase in zip(lasts.tolist(), phases.tolist(), strict=True)
        ]
        nows = tuple((load.began_at - before + together).tolist())
        origins = Origins(np.stack(windows), float(step_s), nows)
        rates[at : at + len(together)] = forecaster.rates(origins)
        at += len(together)
        reached(max(0, first + at * every_s))
        most = TAIL_STEPS  # what was before is remembered
    return Issued(every_s, float(step_s), tuple(float(h * step_s) for h in HORIZONS), rates, first)


def _together(ends: NDArray[np.int64], step_s: int, every_s: int) -> list[NDArray[np.int64]]:
    """Origins in parts, each of which is forecast at once: something is learned at the first of a part only.

    That is a step after it was the last time, which the first origin began, or when there is a step more of history.
    """
    if step_s % every_s:
        return list(ends[:, None])
    learned = np.diff((ends - ends[:1]) // step_s) + np.diff(ends // step_s)
    return np.split(ends, np.flatnonzero(learned) + 1) if len(ends) else []


def known(load: Load, *, noise: bool, reach_s: float) -> Issued:
    """What a clairvoyant is told: the rate itself (`noise`), or its intensity and how far bins stray from it.

    reach_s: seconds ahead that are told. A horizon holds the highest rate of the seconds around it.
    """
    rates = load.rates_rps if noise else load.intensity_rps
    # As far to both sides as the next horizon: what lies between two of them is never above both.
    around = np.pad(rates, KNOWN_EVERY_S, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(around, 2 * KNOWN_EVERY_S + 1)
    # Beyond the end of the load its last second goes on.
    highest = np.append(windows[::KNOWN_EVERY_S].max(axis=1), windows[-1].max())
    starts, steps = np.arange(len(highest) - 1), np.arange(-(-int(reach_s) // KNOWN_EVERY_S) + 1)
    ahead = highest[np.minimum(starts[:, None] + steps, len(starts))]
    spread = np.zeros_like(ahead) if noise else np.sqrt(load.dispersion * ahead / load.bin_s)
    # One quantile at a time: of a long load all of them in double precision are most of the memory that a run takes.
    told = np.empty((*ahead.shape, len(_Z)), dtype=np.float32)
    for at, z in enumerate(_Z):
        told[:, :, at] = np.maximum(ahead + spread * z, 0.0)
    return Issued(KNOWN_EVERY_S, KNOWN_EVERY_S, tuple((steps * float(KNOWN_EVERY_S)).tolist()), told)
