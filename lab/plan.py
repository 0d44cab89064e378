"""What is begun when: forecasts before the runs that read them, the longest first, so that no core is idle at the end.

Pure: pieces of work are numbers, the runs in the order of their rows and then the forecasts of each load.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import mul

from lab.contenders import contender
from lab.experiment import Setting

WORK, FORECASTS_WORK = {"predictive": 3.0}, 7.0
"""What a simulated second of a policy (1 if it is not named), and of forecasts, costs against one of hpa. It decides
what is begun first and how far the bar is, and nothing of what comes out."""

Load = tuple[str, int]
"""Trace and seed."""


class Plan:
    """loads: those that are forecast. seconds: of each piece, how many are simulated."""

    def __init__(self, settings: Sequence[Setting], seconds_of: Callable[[str], int]) -> None:
        """seconds_of: how much of a trace is judged."""
        self._settings = settings
        self.loads: list[Load] = list(dict.fromkeys((one.trace, one.seed) for one in settings if told(one)))
        traces = [one.trace for one in settings] + [trace for trace, _ in self.loads]
        self.seconds = [seconds_of(trace) for trace in traces]
        each = [WORK.get(one.policy, 1.0) for one in settings] + [FORECASTS_WORK] * len(self.loads)
        self._each, self._total = each, sum(map(mul, self.seconds, each))
        self._waiting: dict[Load, list[int]] = {load: [] for load in self.loads}
        self._ready = [len(settings) + at for at in range(len(self.loads))]
        for piece, one in enumerate(settings):
            (self._waiting[one.trace, one.seed] if told(one) else self._ready).append(piece)

    def next(self) -> int | None:
        """The longest piece that can be begun, the first of several; None while none can."""
        if not self._ready:
            return None
        ready = self._ready
        return ready.pop(
            max(range(len(ready)), key=lambda at: self.seconds[ready[at]] * self._each[ready[at]])
        )

    def load(self, piece: int) -> Load | None:
        """The load that a piece forecasts; None for a run."""
        at = piece - len(self._settings)
        return self.loads[at] if at >= 0 else None

    def finished(self, piece: int) -> None:
        """Let the runs begin that waited for this piece."""
        load = self.load(piece)
        if load is not None:
            self._ready += self._waiting.pop(load)

    def share(self, done: Sequence[float]) -> float:
        """Share of the work (0..1) that is done when so many seconds of each piece are."""
        return float(sum(map(mul, done, self._each)) / self._total)


def told(setting: Setting) -> bool:
    """Whether a run reads forecasts."""
    return contender(setting.policy).told == "forecast"
