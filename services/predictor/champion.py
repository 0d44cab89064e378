"""The forecaster that the service asks: all of them, each counting as much as it has earned on this series.

All answer each time and are scored on what then came, so that a network that does not understand this traffic
is found out by its own record and not by its users. What goes out is the blend of their quantiles, calibrated.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np

from services.predictor.blend import Blend
from services.predictor.calibration import Calibration
from services.predictor.features import GROWTH_LIMIT
from services.predictor.forecast import HORIZONS, QUANTILES, ColdStart, Floats, Forecast, Forecaster
from services.predictor.origins import Ledger
from services.predictor.scores import Record, pinball
from services.predictor.seasons import Seasons

CONTEXT_STEPS = 11_520
"""Steps of history that are made use of: eight days of minutes, to find periods in; most needs TAIL_STEPS."""

TAIL_STEPS = 1450
"""Steps that the forecasters are given."""

REPLAY_STEPS = 120
"""Steps of the history that are forecast again to begin with, so that a restart begins with a record."""

KEEP_LEAD = 0.1
"""The leader changes when another's weight is larger by this: names must not flap."""

_MEDIAN = QUANTILES.index(0.5)


@dataclass(frozen=True)
class Said:
    """One origin: rates [forecaster, horizon, quantile], NaN for whom was cold; their blend before and after it was
    calibrated; the level."""

    rates: Floats
    blend: Floats
    answer: Floats
    level_rps: float


class Champion:
    """Forecasters behind the interface of one.

    answers: what each said in the last call, by name. records: each one's record, and under `champion` that of
    what was answered. leader: who counts most now. weights: by name, mean over horizons, summing to one.
    """

    name = "champion"

    def __init__(self, forecasters: Sequence[Forecaster], prior: Sequence[float], seasons: Seasons) -> None:
        """The first one is persistence, which always answers; prior: what each counts at the start."""
        self._forecasters = tuple(forecasters)
        self._prior = np.asarray(prior, dtype=np.float64)
        self._seasons = seasons
        self.answers: dict[str, Forecast] = {}
        self._forget(0.0)

    def _forget(self, step_s: float) -> None:
        self._step_s = step_s
        self._blend = Blend(self._prior)
        self._calibration = Calibration()
        self._ledger: Ledger[Said] = Ledger()
        self._at = -np.inf
        self.records = {one.name: Record() for one in (*self._forecasters, self)}
        self.leader = ""
        self.weights: dict[str, float] = {}

    def forecast(self, history: Floats, step_s: float, now: float) -> Forecast:
        """See Forecaster.forecast; first learns from the earlier forecasts whose outcome this history holds."""
        if step_s != self._step_s:
            self._forget(step_s)
            self._seasons.replaying = True
            first = max(len(history) - REPLAY_STEPS, 1)
            for end in range(first, len(history)):
                if np.isfinite(history[end - 1]):
                    self._advance(history[:end], now - (len(history) - end) * step_s)
            self._seasons.replaying = False
        return self._advance(history, now)

    def _advance(self, history: Floats, now: float) -> Forecast:
        started = perf_counter()
        step_s = self._step_s
        self._seasons.observe(history, step_s, now)
        tail = history[-TAIL_STEPS:]
        self._learn(tail, now)
        self.answers = {}
        rates = np.full((len(self._forecasters), len(HORIZONS), len(QUANTILES)), np.nan)
        for index, forecaster in enumerate(self._forecasters):
            try:
                answer = forecaster.forecast(tail, step_s, now)
            except ColdStart:
                if index == 0:
                    raise
                continue
            self.answers[forecaster.name] = answer
            rates[index] = answer.rates_rps
        base = self.answers[self._forecasters[0].name]
        # In the blend persistence stands for the last value itself: what drifts, the others know better.
        rates[0] = np.maximum(rates[0] - rates[0, :, [_MEDIAN]].T + base.level_rps, 0.0)
        weights = self._blend.weights(np.isfinite(rates[:, 0, 0]))
        self._lead(weights.mean(axis=1))
        raw = np.einsum("fh,fhq->hq", weights, np.nan_to_num(rates))
        top = GROWTH_LIMIT * float(np.nanmax(tail)) / step_s
        final = np.minimum(self._calibration.apply(raw), top)
        self._ledger.keep(now, Said(rates, raw, final, base.level_rps))
        return replace(
            base,
            model=self.leader,
            reason=self.reason(),
            rates_rps=final,
            compute_ms=(perf_counter() - started) * 1e3,
        )

    def _learn(self, history: Floats, now: float) -> None:
        for horizon, said, outcome in self._ledger.settle(history, self._step_s, now):
            rate = outcome / self._step_s
            losses = pinball(said.rates[:, horizon], rate)
            self._blend.learn(horizon, losses, float(losses[0]))
            self._calibration.learn(horizon, said.blend[horizon], rate)
            naive = abs(rate - said.level_rps)
            for index, forecaster in enumerate(self._forecasters):
                if np.isfinite(losses[index]):
                    self.records[forecaster.name].add(said.rates[index, horizon], rate, naive)
            self.records[self.name].add(said.answer[horizon], rate, naive)

    def _lead(self, weights: Floats) -> None:
        names = [forecaster.name for forecaster in self._forecasters]
        self.weights = dict(zip(names, weights.tolist(), strict=True))
        best = names[int(np.argmax(weights))]
        if self.weights.get(self.leader, 0.0) + KEEP_LEAD <= self.weights[best]:
            self.leader = best

    def dump(self) -> dict[str, Any]:
        """What no history of some hours can bring back, as JSON: the memory that periods are found in."""
        return self._seasons.dump()

    def restore(self, saved: Any, step_s: float, now: float) -> bool:
        """Put back what `dump` gave; False, and nothing is changed, for anything else, another step or the future."""
        return self._seasons.restore(saved, step_s, now)

    def reason(self) -> str:
        """What the answer is made of and on which record: "lstm 62 % (MAE 0.83 of the last value's), ar ..."."""
        parts = []
        for name, weight in sorted(self.weights.items(), key=lambda one: -one[1]):
            ratio = self.records[name].mae_ratio
            if weight >= 0.01:
                record = "" if ratio is None else f" (MAE {ratio:.2f} of the last value's)"
                parts.append(f"{name} {100 * weight:.0f} %{record}")
        return ", ".join(parts)
