"""The forecast as it stands: history in, forecast out, no input or output of its own."""

from collections.abc import Callable

import numpy as np

from services.predictor.champion import CONTEXT_STEPS, Champion
from services.predictor.features import LAGS
from services.predictor.forecast import Floats, Forecast, merged
from services.predictor.history import History, Verdict

LADDER_S = (1, 2, 5, 10, 15, 30, 60, 120, 300)
"""Step lengths used while there is too little history for the one that is set."""

WARM_STEPS = 20
"""Known steps in the window that make a step length usable; the last one must be known, too."""


class Live:
    """What the service knows of the traffic; time comes in as an argument.

    A forecaster needs steps, and a young history has few long ones. So the longest step up to `step_s` is
    taken of which there are WARM_STEPS: forecasts begin with the first second, reach further as the history
    grows, and say their step. Each step has a champion of its own, with its own record: after an outage the one of
    the usual step goes on where it was.
    """

    def __init__(
        self,
        history: History,
        make: Callable[[], Champion],
        *,
        step_s: int,
        silence_s: float,
        started: float,
        fine_step_s: int | None = None,
    ) -> None:
        """make: a new champion. silence_s: seconds without a report after which nothing is forecast; started:
        monotonic seconds. fine_step_s: a shorter step that is forecast beside `step_s`, for the nearest horizons.
        """
        self.history = history
        self._make = make
        self._champions: dict[int, Champion] = {step_s: make()}
        self._fine_step_s = fine_step_s
        self.champion = self._champions[step_s]
        self._step_s = step_s
        self._silence_s = silence_s
        self._heard_at: float | None = None
        self._started = started
        self._before: Floats | None = None

    def hear(self, instance: str, t: float, arrivals: float, *, now: float, monotonic: float) -> Verdict:
        """Take one gateway's report of one second (see History.add)."""
        verdict = self.history.add(instance, t, arrivals, now)
        if verdict is Verdict.ACCEPTED:
            self._heard_at = monotonic
            if self._before is not None and arrivals > 0:
                self.history.put_before(self._before)
                self._before = None
        return verdict

    def expect(self, before: Floats) -> None:
        """Take `before` (requests per second) as the history of the traffic whose first request is to come.

        For a replay: what was counted before its start is not the past of what it replays.
        """
        self._before = before

    @property
    def expecting(self) -> bool:
        """Whether the first request after `expect` is still to come."""
        return self._before is not None

    def silent_for(self, monotonic: float) -> float | None:
        """Seconds since the last report (before the first: since the start) if that is silence, else None."""
        age = monotonic - (self._started if self._heard_at is None else self._heard_at)
        return age if self._heard_at is None or age > self._silence_s else None

    def forecast(self, monotonic: float) -> Forecast | None:
        """The forecast from the window that ends with the newest second; None in silence, which has none."""
        end = self.history.end()
        if end is None or self.silent_for(monotonic) is not None:
            return None
        step_s, steps = self._steps()
        self.champion = self._of(step_s)
        forecast = self.champion.forecast(steps, float(step_s), float(end))
        fine = self._fine_step_s
        if fine is not None and fine < step_s:
            near = self._of(fine).forecast(self.history.steps(fine, CONTEXT_STEPS), float(fine), float(end))
            forecast = merged(near, forecast)
        return forecast

    @property
    def usual(self) -> Champion:
        """The champion of the step that is set, whichever answers now."""
        return self._champions[self._step_s]

    def _of(self, step_s: int) -> Champion:
        if step_s not in self._champions:
            self._champions[step_s] = self._make()
        return self._champions[step_s]

    def _steps(self) -> tuple[int, Floats]:
        """The longest usable step in seconds and the history in it; the shortest when none is usable."""
        ladder = [step for step in LADDER_S if step < self._step_s]
        for step in (self._step_s, *reversed(ladder)):
            steps = self.history.steps(step, CONTEXT_STEPS)
            # After an outage a long step is unknown for longer, and what was before it is no level of today.
            if steps.size and np.isfinite(steps[-1]) and np.isfinite(steps[-LAGS:]).sum() >= WARM_STEPS:
                return step, steps
        shortest = (*ladder, self._step_s)[0]
        return shortest, self.history.steps(shortest, CONTEXT_STEPS)
