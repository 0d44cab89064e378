"""What the load will be when a replica ordered now is ready: the forecast and the last seconds, weighed by what each
has been worth on this very series.

A forecast is made of minutes, a burst of seconds. Which of the two tells more differs from one kind of traffic to the
next and from one start delay to the next, so it is learned and not set.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from operator import mul
from typing import NamedTuple

from services.autoscaler.observation import ForecastView, Observation, interpolated
from services.autoscaler.policies.errors import Errors
from services.autoscaler.policies.ridge import Ridge, Weights

MEANS_S = (3.0, 8.0, 20.0, 60.0, 300.0)
"""Time constants of the running means of the rate, from a burst to the level of minutes."""

_LEVEL = MEANS_S.index(60.0)  # what all others are taken relative to

PRIOR: Weights = (0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
"""Weights before anything was learned, in the order of `_inputs`: the forecast alone."""

STRENGTH = 20.0
"""Samples that the prior is worth."""

MEMORY = 1200.0
"""Samples after which one counts 1/e: two hours."""

OUTCOME_S = 10
"""Seconds over which a load is measured when it has come: shorter surges are a queue's to take."""

SAMPLE_EVERY_S = 6.0
"""Seconds between two samples, at most; a third of the lead where that is shorter: outcomes nearer to each other tell
the same."""

SOLVE_EVERY = 10
"""Samples between two looks at what the weights should be."""

WIDEST = 1.5
"""Nothing is expected this many times above or below all that is known: a line must not be drawn too far."""

LEAST_RPS = 0.1
"""Requests per second below which noise is not taken to become smaller, where the capacity of a replica is not known;
else it is that: what one replica carries decides nothing, and a jump out of nothing would be a giant in units of it."""

LONGEST_PAUSE_S = 30.0
"""Between two ticks; after a longer one the time between is another life."""

HORIZONS = 3


class Expected(NamedTuple):
    """The load `ahead_s` seconds from now, requests per second: what is expected, and its quantile."""

    ahead_s: float
    rate_rps: float
    high_rps: float


class _Sample(NamedTuple):
    """What was known at a tick and said of each horizon; outcomes come in later, NaN until then."""

    inputs: Weights
    level: float
    said: tuple[float, ...]
    due: tuple[float, ...]
    outcomes: list[float]


class Outlook:
    """The load at three instants from the next tick to the lead, learned online.

    State: running means, the regression, the errors it made, and samples whose outcome is yet to come.
    """

    def __init__(self, *, tick_s: float, quantile: float) -> None:
        """tick_s: seconds between two calls. quantile: of the load, 0..1."""
        self._tick_s = tick_s
        self._quantile = quantile
        self._means: list[float] = []
        self._heard_at = -math.inf
        self._fading: tuple[int, list[float]] = (0, [])
        self._ridge = Ridge((PRIOR,) * HORIZONS, strength=STRENGTH, memory=MEMORY)
        self._weights: Sequence[Weights] = (PRIOR,) * HORIZONS
        self._errors = tuple(Errors() for _ in range(HORIZONS))
        self._margins: Sequence[float] = ()
        self._samples = 0
        self._forecast: ForecastView | None = None
        self._medians: Sequence[float] = ()
        self._highs: Sequence[float] = ()
        self._waiting: tuple[deque[_Sample], ...] = tuple(deque() for _ in range(HORIZONS))
        self._sampled_at = -math.inf
        self._least_rps = LEAST_RPS

    def hear(self, observation: Observation) -> None:
        """Take in the seconds since the last call; to be called at each tick, whatever is decided."""
        now = observation.now
        self._least_rps = observation.capacity_rps or LEAST_RPS
        if not 0 <= now - self._heard_at <= LONGEST_PAUSE_S:
            self._begin(observation)
            return
        seconds = round(now - self._heard_at)
        rate = observation.rate(seconds) if seconds else None
        if rate is None:
            return
        if self._fading[0] != seconds:
            self._fading = (seconds, [math.exp(-seconds / mean_s) for mean_s in MEANS_S])
        self._means = [
            rate + keep * (mean - rate) for mean, keep in zip(self._means, self._fading[1], strict=True)
        ]
        self._heard_at = now
        self._settle(observation)

    def _begin(self, observation: Observation) -> None:
        """Begin with the seconds that are known; what waits for an outcome will not see it."""
        for waiting in self._waiting:
            waiting.clear()
        self._sampled_at = -math.inf
        rates = [observation.rate(round(mean_s)) for mean_s in MEANS_S]
        known = [rate for rate in rates if rate is not None]
        if known:
            self._means = [known[0] if rate is None else rate for rate in rates]
            self._heard_at = observation.now

    def _settle(self, observation: Observation) -> None:
        """Note the outcomes that have come, and learn from samples that have all of theirs."""
        for horizon, waiting in enumerate(self._waiting):
            while waiting and waiting[0].due[horizon] <= observation.now:
                sample = waiting.popleft()
                rate = observation.rate(OUTCOME_S)
                if rate is not None:
                    sample.outcomes[horizon] = rate
                if horizon == HORIZONS - 1 and not any(map(math.isnan, sample.outcomes)):
                    self._learn(sample)

    def _learn(self, sample: _Sample) -> None:
        root = self._root(sample.level)
        self._ridge.learn(sample.inputs, [(came - sample.level) / root for came in sample.outcomes])
        for errors, said, came in zip(self._errors, sample.said, sample.outcomes, strict=True):
            errors.add((came - said) / self._root(max(said, sample.level)))
        self._margins = ()
        self._samples += 1
        if self._samples % SOLVE_EVERY == 0:
            self._weights = self._ridge.weights()

    def expect(self, observation: Observation, forecast: ForecastView, lead_s: float) -> list[Expected]:
        """The load one tick from now, at half the way to the lead and at the lead; empty while nothing was heard."""
        if not self._means:
            return []
        age = forecast.age_s(observation.now)
        ahead = (self._tick_s, (self._tick_s + lead_s) / 2, lead_s)
        # A step's rate is that of its middle.
        if forecast is not self._forecast:
            self._forecast = forecast
            self._medians, self._highs = forecast.by_horizon(0.5), forecast.by_horizon(self._quantile)
        foretold = interpolated(age + lead_s + forecast.step_s / 2, forecast.horizons_s, self._medians)
        level = self._means[_LEVEL]
        root = self._root(level)
        inputs = self._inputs(level, root, foretold)
        known = (*self._means, foretold)
        least, most = min(known) / WIDEST, max(known) * WIDEST
        said = tuple(
            min(max(level + root * sum(map(mul, weights, inputs)), least), most) for weights in self._weights
        )
        if observation.now - self._sampled_at >= min(SAMPLE_EVERY_S, lead_s / 3) - self._tick_s / 4:
            self._sample(observation.now, inputs, level, said, ahead)
        if not self._margins:
            self._margins = [
                errors.quantile(self._quantile, self._first_margin(forecast, age + each))
                for errors, each in zip(self._errors, ahead, strict=True)
            ]
        return [
            Expected(each, rate, max(0.0, rate + margin * (root if rate <= level else self._root(rate))))
            for each, rate, margin in zip(ahead, said, self._margins, strict=True)
        ]

    def _inputs(self, level: float, root: float, foretold: float) -> Weights:
        """Relative to the level in units of its root, as noise is; the first is a constant share of the level."""
        burst, seconds, lasting, _, minutes = self._means
        return (
            0.1 * root,
            (burst - level) / root,
            (seconds - level) / root,
            (lasting - level) / root,
            (minutes - level) / root,
            (foretold - level) / root,
        )

    def _sample(
        self, now: float, inputs: Weights, level: float, said: tuple[float, ...], ahead: Sequence[float]
    ) -> None:
        due = tuple(now + each + OUTCOME_S / 2 for each in ahead)
        sample = _Sample(inputs, level, said, due, [math.nan] * HORIZONS)
        for waiting in self._waiting:
            waiting.append(sample)
        self._sampled_at = now

    def _first_margin(self, forecast: ForecastView, horizon_s: float) -> float:
        """What the forecast's own quantile adds to its median, in the units of an error."""
        middle_s = horizon_s + forecast.step_s / 2
        middle = interpolated(middle_s, forecast.horizons_s, self._medians)
        high = interpolated(middle_s, forecast.horizons_s, self._highs)
        return (high - middle) / self._root(middle)

    def _root(self, rate: float) -> float:
        """The unit of errors: the noise of a count grows as the root of the rate, as does that of bursty traffic."""
        return math.sqrt(max(rate, self._least_rps))
