"""When a policy with a period of its own is due, whatever tick it is called at."""

from __future__ import annotations


class Cadence:
    """A grid of instants `period_s` apart, anchored at the first call, so that late ticks don't add up."""

    def __init__(self, period_s: float) -> None:
        """period_s: seconds between two instants; raises ValueError unless above zero."""
        if not period_s > 0:
            raise ValueError(f"period {period_s} s is not above zero")
        self._period_s = period_s
        # A tick comes a few milliseconds early as often as late; early must not cost a whole tick.
        self._early_s = min(0.1 * period_s, 0.25)
        self._next: float | None = None

    def due(self, now: float) -> float | None:
        """The instant that has come since the last one, None if none has; to be asked once a tick.

        It is an instant of the grid and not `now`: windows counted in periods must not depend on which tick a
        period happened to end at.
        """
        lost = self._next is None or abs(now - self._next) > self._period_s + self._early_s
        if self._next is None or lost:  # the first call, a pause, or a clock that jumped
            self._next = now + self._period_s
            return now
        if now < self._next - self._early_s:
            return None
        instant = self._next
        self._next += self._period_s
        return instant

    def remaining_s(self, now: float) -> float:
        """Seconds until the next instant."""
        return 0.0 if self._next is None else max(0.0, self._next - now)
