"""The forecaster that the service asks: the LSTM while it earns it, persistence otherwise.

Both answer each time and are scored on what then came, so that a network that does not understand this
traffic is found out by its own record and not by its users. The answer's `model` says who gave it.
"""

import numpy as np

from services.predictor.forecast import HORIZONS, ColdStart, Floats, Forecast, Forecaster
from services.predictor.persistence import MEMORY
from services.predictor.scores import Scores, loss

CONTEXT_STEPS = MEMORY + max(HORIZONS)
"""Steps of history that either of the two makes use of; more is not needed."""

MEMORY_STEPS = 30.0
"""Steps after which an error weighs 1/e in the comparison."""

COVERAGE_MEMORY_STEPS = 300.0
"""The same for coverage, which needs many more outcomes to mean anything."""

TRIAL_STEPS = 15.0
"""No verdict before the comparison has run for so many steps."""

DEMOTE_ABOVE = 1.25
"""The leader is demoted when its pinball loss is above this many times the challenger's."""

PROMOTE_BELOW = 1.0
"""And leads again below this: the gap between the two keeps it from flapping."""


class Champion:
    """Two forecasters behind the interface of one.

    answers: what each said in the last call, by name. scores: each one's record, and under `champion` that of
    what was answered. demoted: whether the leader has lost its place for now.
    """

    name = "champion"

    def __init__(self, leader: Forecaster, challenger: Forecaster) -> None:
        self._leader = leader
        self._challenger = challenger
        self._issued: dict[float, dict[str, Forecast]] = {}
        self._trial_since: float | None = None
        self._step_s = 0.0
        self.demoted = False
        self.answers: dict[str, Forecast] = {}
        self.scores: dict[str, Scores] = {}

    def forecast(self, history: Floats, step_s: float, now: float) -> Forecast:
        """See Forecaster.forecast; first scores the earlier forecasts whose outcome this history holds."""
        if step_s != self._step_s:
            self._forget(step_s)
        self._score(history, now)
        challenge = self._challenger.forecast(history, step_s, now)
        self.answers = {self._challenger.name: challenge}
        answer = challenge
        try:
            lead = self._leader.forecast(history, step_s, now)
        except ColdStart:
            pass
        else:
            self.answers[self._leader.name] = lead
            answer = challenge if self.demoted else lead
        self._issued[_key(now)] = {**self.answers, self.name: answer}
        return answer

    def _score(self, history: Floats, now: float) -> None:
        """Score each forecast that looked at the step which just ended; two calls at one time score once."""
        self._expire(now)
        if _key(now) in self._issued or not history.size or not np.isfinite(history[-1]):
            return
        outcome = float(history[-1]) / self._step_s
        for index, horizon in enumerate(HORIZONS):
            past = self._issued.get(_key(now - horizon * self._step_s), {})
            for name, forecast in past.items():
                scores = self.scores.setdefault(name, Scores(MEMORY_STEPS, COVERAGE_MEMORY_STEPS))
                yardstick = abs(outcome - forecast.level_rps)
                scores.add(loss(forecast, index, outcome), yardstick, now / self._step_s)
            if self._leader.name in past and self._trial_since is None:
                self._trial_since = now
        self._judge(now)

    def _judge(self, now: float) -> None:
        if self._trial_since is None or now - self._trial_since < TRIAL_STEPS * self._step_s:
            return
        ours, theirs = self.scores[self._leader.name].pinball, self.scores[self._challenger.name].pinball
        limit = PROMOTE_BELOW if self.demoted else DEMOTE_ABOVE
        self.demoted = ours > limit * theirs

    def _expire(self, now: float) -> None:
        """Drop what is too old to be scored, and what a clock that was set back has put in the future."""
        oldest = now - (max(HORIZONS) + 1) * self._step_s
        for at in [at for at in self._issued if not oldest <= at <= now]:
            del self._issued[at]

    def _forget(self, step_s: float) -> None:
        self._step_s, self._trial_since, self.demoted = step_s, None, False
        self._issued.clear()
        self.scores.clear()


def _key(at: float) -> float:
    return round(at, 3)
