"""The forecaster that the service asks: all of them, each counting as much as it has earned on this series.

All answer each time and are scored on what then came, so that a network that does not understand this traffic
is found out by its own record and not by its users. What goes out is the blend of their quantiles, calibrated.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np

from services.predictor.blend import Blend
from services.predictor.calibration import Calibration
from services.predictor.features import GROWTH_LIMIT
from services.predictor.forecast import (
    HORIZONS,
    QUANTILES,
    ColdStart,
    Expert,
    Floats,
    Forecast,
    Origins,
    rates_of,
)
from services.predictor.origins import Ledger, rounds
from services.predictor.scores import Record, loss
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
    """Experts behind the interface of one forecaster.

    records: each one's record, and under `champion` that of what was answered. leader: who counts most now. weights:
    by name, mean over horizons, summing to one.
    """

    name = "champion"

    def __init__(self, forecasters: Sequence[Expert], prior: Sequence[float], seasons: Seasons) -> None:
        """The first one is persistence, which always answers; prior: what each counts at the start."""
        self._forecasters = tuple(forecasters)
        self._prior = np.asarray(prior, dtype=np.float64)
        self._seasons = seasons
        self._said: Floats = np.zeros((0, len(HORIZONS), len(QUANTILES)))
        self._answer: Forecast | None = None
        self._forget(0.0)

    def _forget(self, step_s: float) -> None:
        self._step_s = step_s
        self._blend = Blend(self._prior)
        self._calibration = Calibration()
        self._ledger: Ledger[Said] = Ledger()
        self._at = -np.inf
        self.records = {name: Record() for name in (*(one.name for one in self._forecasters), self.name)}
        self.leader = ""
        self.weights: dict[str, float] = {}

    def forecast(self, history: Floats, step_s: float, now: float) -> Forecast:
        """See Forecaster.forecast; first learns from the earlier forecasts whose outcome this history holds."""
        origins = Origins.one(history, step_s, now)
        self._begin(origins)
        started = perf_counter()
        rates = self._advance(origins)[0]
        tail = history[-TAIL_STEPS:]
        self._answer = Forecast(
            issued_at=now,
            step_s=step_s,
            model=self.leader,
            level_rps=float(_levels(tail[None], step_s)[0]),
            horizons_s=tuple(h * step_s for h in HORIZONS),
            quantiles=QUANTILES,
            rates_rps=rates,
            history_steps=int(np.isfinite(tail).sum()),
            compute_ms=(perf_counter() - started) * 1e3,
            reason=self.reason(),
        )
        return self._answer

    def rates(self, origins: Origins) -> Floats:
        """See Forecaster.rates: those of `forecast` at each of the origins, bit for bit, where outcomes come with the
        first of them."""
        self._begin(origins)
        return self._advance(origins)

    @property
    def answers(self) -> dict[str, Forecast]:
        """What each expert said in the last `forecast`, by name; without those that were cold."""
        answer = self._answer
        if answer is None:
            return {}
        return {
            one.name: replace(answer, model=one.name, rates_rps=self._said[at], reason="")
            for at, one in enumerate(self._forecasters)
            if np.isfinite(self._said[at, 0, 0])
        }

    def _begin(self, origins: Origins) -> None:
        """Forecast the last steps again where the step is a new one."""
        step_s, history = origins.step_s, origins.histories[0]
        if step_s == self._step_s:
            return
        self._forget(step_s)
        self._seasons.replaying = True
        first = max(len(history) - REPLAY_STEPS, 1)
        for end in range(first, len(history)):
            if np.isfinite(history[end - 1]):
                now = origins.nows[0] - (len(history) - end) * step_s
                self._advance(Origins.one(history[:end], step_s, now))
        self._seasons.replaying = False

    def _advance(self, origins: Origins) -> Floats:
        """[origin, horizon, quantile], requests per second."""
        self._seasons.outlooks(origins)
        tail = origins.last(TAIL_STEPS)
        histories, step_s = tail.histories, tail.step_s
        self._learn(histories[0], tail.nows[0])
        counts = np.full((len(self._forecasters), len(histories), len(HORIZONS), len(QUANTILES)), np.nan)
        for index, forecaster in enumerate(self._forecasters):
            try:
                counts[index] = forecaster.counts(tail)
            except ColdStart:
                if index == 0:
                    raise
        rates = rates_of(counts, step_s)
        self._said = rates[:, -1].copy()
        levels = _levels(histories, step_s)
        # In the blend persistence stands for the last value itself: what drifts, the others know better.
        rates[0] = np.maximum(rates[0] - rates[0][..., [_MEDIAN]] + levels[:, None, None], 0.0)
        asked = np.isfinite(rates[:, 0, 0, 0])
        weights = self._blend.weights(asked)
        self._lead(weights.mean(axis=1))
        # Who is cold says NaN, and counts for nothing.
        blended = rates if asked.all() else np.where(asked[:, None, None, None], rates, 0.0)
        raw = np.einsum("fh,fnhq->nhq", weights, blended)
        top = GROWTH_LIMIT * np.nanmax(histories, axis=1) / step_s
        final: Floats = np.minimum(self._calibration.apply(raw), top[:, None, None])
        self._ledger.keep(tail.nows[0], Said(rates[:, 0], raw[0], final[0], float(levels[0])))
        return final

    def _learn(self, history: Floats, now: float) -> None:
        for settled in rounds(self._ledger.settle(history, self._step_s, now)):
            horizons = [one.horizon for one in settled]
            came = np.array([one.outcome for one in settled]) / self._step_s
            rows = np.stack([one.said.rates[:, one.horizon] for one in settled], axis=1)
            losses = loss(rows, came)
            self._blend.learn(horizons, losses, losses[0])
            self._calibration.learn(
                horizons, np.stack([one.said.blend[one.horizon] for one in settled]), came
            )
            said = [*rows.tolist(), [one.said.answer[one.horizon].tolist() for one in settled]]
            for record, of_one in zip(self.records.values(), said, strict=True):
                for row, rate, one in zip(of_one, came.tolist(), settled, strict=True):
                    if math.isfinite(row[0]):
                        record.add(row, rate, abs(rate - one.said.level_rps))

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


def _levels(histories: Floats, step_s: float) -> Floats:
    """Rate of the last known step of each history, requests per second."""
    last = histories[:, -1]
    if not np.isfinite(last[0]):
        last = histories[:, np.flatnonzero(np.isfinite(histories[0]))[-1]]
    return np.asarray(np.maximum(last, 0.0) / step_s)
