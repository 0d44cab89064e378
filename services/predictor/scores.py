"""How good forecasts were: running sums that forget, and the losses they are made of."""

from dataclasses import dataclass
from math import exp

import numpy as np

from services.predictor.forecast import QUANTILES, Forecast

_LEVELS = np.asarray(QUANTILES)
_MEDIAN = QUANTILES.index(0.5)
_Q95 = QUANTILES.index(0.95)


@dataclass(frozen=True)
class Loss:
    """One forecast against one outcome: absolute error of the median, pinball loss (mean over quantiles),
    both in requests per second, and whether the outcome was at most the 0.95 quantile."""

    absolute: float
    pinball: float
    covered: bool


def loss(forecast: Forecast, horizon: int, outcome_rps: float) -> Loss:
    """Score the forecast's `horizon`-th row (an index) against the rate that came."""
    row = forecast.rates_rps[horizon]
    error = outcome_rps - row
    pinball = float(np.maximum(_LEVELS * error, (_LEVELS - 1.0) * error).mean())
    # A microscopic tolerance: a constant series sits exactly on its quantiles, give or take a rounding.
    covered = outcome_rps <= row[_Q95] * (1 + 1e-6) + 1e-9
    return Loss(abs(float(error[_MEDIAN])), pinball, bool(covered))


class Fading:
    """A sum whose past fades: weight 1/e after `memory` units of time."""

    def __init__(self, memory: float) -> None:
        self._memory = memory
        self._at: float | None = None
        self.total = 0.0

    def add(self, value: float, at: float) -> None:
        """Add `value` at time `at`; a time before the last one counts as the last one."""
        if self._at is not None and at > self._at:
            self.total *= exp(-(at - self._at) / self._memory)
        self._at = at
        self.total += value


class Scores:
    """Running scores of one forecaster; times in steps."""

    def __init__(self, memory: float, coverage_memory: float) -> None:
        self._absolute, self._pinball = Fading(memory), Fading(memory)
        self._yardstick = Fading(memory)
        self._covered, self._count = Fading(coverage_memory), Fading(coverage_memory)

    def add(self, scored: Loss, yardstick: float, at: float) -> None:
        """Count one loss; `yardstick`: absolute error of the last value on the same origin and horizon."""
        self._absolute.add(scored.absolute, at)
        self._pinball.add(scored.pinball, at)
        self._yardstick.add(yardstick, at)
        self._covered.add(float(scored.covered), at)
        self._count.add(1.0, at)

    @property
    def pinball(self) -> float:
        """Faded sum of pinball losses: only worth comparing with another's on the same origins."""
        return self._pinball.total

    @property
    def mae_ratio(self) -> float | None:
        """Mean absolute error over that of the last value; None before the first outcome or without error."""
        return self._absolute.total / self._yardstick.total if self._yardstick.total > 0 else None

    @property
    def coverage_q95(self) -> float | None:
        """Share of outcomes at or below the 0.95 quantile; None before the first outcome."""
        return self._covered.total / self._count.total if self._count.total > 0 else None
