"""What a forecast is, and what answers one: the interface of every forecaster, live and in the lab."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

HORIZONS = (1, 2, 3, 5, 10)
"""Steps ahead that a forecast covers; horizon h is the step that ends h steps after `issued_at`."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
"""Quantiles given for each horizon, ascending."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Forecast:
    """Quantiles of the arrival rate in the steps to come.

    issued_at: end of the last step that was known, in epoch seconds; horizons count from here.
    step_s: length of a step in seconds. level_rps: rate in the last known step, requests per second.
    model: the forecaster that answered. horizons_s: ascending, seconds. quantiles: ascending.
    rates_rps: requests per second, [horizon, quantile], never negative, never falling along a row.
    history_steps: known steps behind the forecast. compute_ms: wall time that it took. reason: on what grounds
    this model answered, for people.
    """

    issued_at: float
    step_s: float
    model: str
    level_rps: float
    horizons_s: tuple[float, ...]
    quantiles: tuple[float, ...]
    rates_rps: Floats
    history_steps: int
    compute_ms: float
    reason: str = ""

    @classmethod
    def from_counts(
        cls, counts: Floats, *, model: str, history: Floats, step_s: float, now: float, compute_ms: float
    ) -> "Forecast":
        """Make a forecast from requests per step, [horizon, quantile], put in order and kept above zero."""
        known = history[np.isfinite(history)]
        return cls(
            issued_at=now,
            step_s=step_s,
            model=model,
            level_rps=float(max(known[-1], 0.0)) / step_s if known.size else 0.0,
            horizons_s=tuple(h * step_s for h in HORIZONS),
            quantiles=QUANTILES,
            rates_rps=rates_of(counts, step_s),
            history_steps=int(known.size),
            compute_ms=compute_ms,
        )

    def at(self, horizon_s: float, quantile: float) -> float:
        """The rate (requests per second) at any horizon and quantile, linear between those given.

        Outside of them the nearest one holds: a horizon shorter than a step has the spread of a whole step,
        and nothing is extrapolated. Raises ValueError for a quantile outside 0..1 or a negative horizon.
        """
        if not 0.0 <= quantile <= 1.0:
            raise ValueError(f"quantile {quantile} is outside 0..1")
        if not horizon_s >= 0.0:
            raise ValueError(f"horizon {horizon_s} s is negative")
        by_horizon = [float(np.interp(quantile, self.quantiles, row)) for row in self.rates_rps]
        return float(np.interp(horizon_s, self.horizons_s, by_horizon))

    def event(self) -> dict[str, Any]:
        """The message of topic `forecasts` (services/contracts/forecasts.schema.json)."""
        said = {"reason": self.reason} if self.reason else {}
        return {
            "issued_at": self.issued_at,
            "step_s": self.step_s,
            "model": self.model,
            "level_rps": round(self.level_rps, 6),
            "horizons_s": list(self.horizons_s),
            "quantiles": list(self.quantiles),
            "rates_rps": [[round(float(rate), 6) for rate in row] for row in self.rates_rps],
            "history_steps": self.history_steps,
            "compute_ms": round(self.compute_ms, 3),
            **said,
        }


def merged(fine: Forecast, coarse: Forecast) -> Forecast:
    """Two forecasts of one instant as one: the horizons of `fine` that end before the first of `coarse`, then those.

    It is `coarse` in all else. A horizon's rate is that of a step of the forecast that it came from: near ones tell
    of seconds with their noise, far ones of minutes. Raises ValueError when they were not issued together.
    """
    if fine.issued_at != coarse.issued_at:
        raise ValueError(f"forecasts of {fine.issued_at} and {coarse.issued_at} cannot be merged")
    near = [row for row, horizon in enumerate(fine.horizons_s) if horizon < coarse.horizons_s[0]]
    return replace(
        coarse,
        horizons_s=(*(fine.horizons_s[row] for row in near), *coarse.horizons_s),
        rates_rps=np.concatenate([fine.rates_rps[near], coarse.rates_rps]),
        compute_ms=fine.compute_ms + coarse.compute_ms,
    )


@dataclass(frozen=True)
class Origins:
    """Instants within one step at which a series is forecast: what there is to learn is learned at the first.

    Live there is one at a time; the lab asks for all of a step at once, which costs little more than one.

    histories: float64[origin, step], requests per step, oldest first; the last step ends at the origin. NaN where
    nothing is known, which only a single origin may have. step_s: seconds in a step. nows: epoch seconds, ascending.
    """

    histories: Floats
    step_s: float
    nows: tuple[float, ...]

    def __post_init__(self) -> None:
        """Raises ValueError when the above does not hold."""
        if self.histories.ndim != 2 or len(self.histories) != len(self.nows):
            raise ValueError(
                f"histories {self.histories.shape} are not one row for each of {len(self.nows)} origins"
            )
        if len(self.nows) == 1:
            return
        if not 0.0 < self.nows[-1] - self.nows[0] < self.step_s:
            raise ValueError(
                f"origins {self.nows[0]}..{self.nows[-1]} do not lie within one step of {self.step_s} s"
            )
        if not np.isfinite(self.histories).all():
            raise ValueError(
                "several origins at once must have histories without gaps; ask for one at a time"
            )

    @classmethod
    def one(cls, history: Floats, step_s: float, now: float) -> "Origins":
        """A single origin."""
        return cls(history[None], step_s, (now,))

    def last(self, steps: int) -> "Origins":
        """The same with histories of at most so many steps."""
        if self.histories.shape[1] <= steps:
            return self
        return Origins(self.histories[:, -steps:], self.step_s, self.nows)


class Forecaster(Protocol):
    """Anything that turns a history of counts into a forecast."""

    @property
    def name(self) -> str:
        """What `Forecast.model` says when this one answered."""

    def rates(self, origins: Origins) -> Floats:
        """Requests per second [origin, horizon, quantile], as `Forecast.rates_rps` has them. Raises ColdStart."""

    def forecast(self, history: Floats, step_s: float, now: float) -> Forecast:
        """Forecast from `history`: requests per step, oldest first, NaN where nothing is known.

        step_s: length of a step in seconds. now: end of the last step, epoch seconds. Time comes in as an
        argument so that the lab can replay it. Raises ColdStart when the history is too short to answer.
        """


class Expert(ABC):
    """A forecaster by the counts that it says: one file per expert."""

    name: str

    @abstractmethod
    def counts(self, origins: Origins) -> Floats:
        """Requests per step [origin, horizon, quantile], in any order along a row. Raises ColdStart."""

    def rates(self, origins: Origins) -> Floats:
        """See Forecaster.rates."""
        return rates_of(self.counts(origins), origins.step_s)

    def forecast(self, history: Floats, step_s: float, now: float) -> Forecast:
        """See Forecaster.forecast."""
        started = perf_counter()
        return Forecast.from_counts(
            self.counts(Origins.one(history, step_s, now))[0],
            model=self.name,
            history=history,
            step_s=step_s,
            now=now,
            compute_ms=(perf_counter() - started) * 1e3,
        )


class ColdStart(Exception):
    """A forecaster was asked before it had history enough; the message says how much it has and needs."""


def rates_of(counts: Floats, step_s: float) -> Floats:
    """Requests per second, of counts per step [..., quantile]: in order along a row and never negative."""
    return np.asarray(np.sort(np.maximum(counts, 0.0), axis=-1) / step_s)
