"""How many requests per second one replica serves, learned from what the replicas do."""

from __future__ import annotations

MEASURABLE = 0.7
"""Share of the quota above which a sample tells the capacity; below it only gives a lower bound.

Half-full replicas batch little: one was seen to seem worth 97 requests/s at 60 of them, and served 210 when full.
Believing that keeps replicas that nobody needs. Wanting too few is found out at once, for it fills the replicas.
A server that takes whatever is there uses all of its CPU long before it is full: one that was busy all the time with
100 requests/s served 400. That it is full shows in requests that wait, one for each replica, and in nothing else."""

WIDEST = 4.0
"""The estimate stays within this factor of the first guess, both ways."""

_LEAST_UTILISATION = 0.05  # a division by less than this is a division by noise
_OUTLIER = 2.0
_SLOW, _FAST = 0.02, 0.2  # weight of a sample at MEASURABLE, and at full load
_BOUND_WEIGHT = 0.1
_BOUND_MARGIN = 0.9


class CapacityEstimate:
    """Requests per second that one replica serves at 100 % of its CPU quota.

    A sample is throughput / utilisation. Batching makes the cost of a request fall as load rises, so a sample
    understates the capacity while there is room for more: below `MEASURABLE` it can only raise the estimate, and as
    long as no request waits it can lower it no further than to the first guess. Else it counts the more the fuller the
    replicas were. One sample moves the estimate little, however wild it is, and all of them together no further than
    `WIDEST` from `initial_rps`, where one was given.
    """

    def __init__(self, initial_rps: float | None = None) -> None:
        """initial_rps: a first guess, from a calibration; raises ValueError unless it is above zero."""
        if initial_rps is not None and not initial_rps > 0:
            raise ValueError(f"capacity {initial_rps} req/s is not above zero")
        self._rps = initial_rps
        self._guess = initial_rps or 0.0
        self._least = initial_rps / WIDEST if initial_rps is not None else 0.0
        self._most = initial_rps * WIDEST if initial_rps is not None else float("inf")
        self._bound: float | None = None
        self.samples = 0

    @property
    def rps(self) -> float | None:
        """The estimate; None while there was neither a first guess nor a sample that tells."""
        return self._rps

    def learn(self, completed_rps: float, utilisation: float, ready: int, queue: float) -> None:
        """Take in one sample of a time in which the number of ready replicas did not change.

        completed_rps: requests per second that all replicas finished. utilisation: mean share of the quota
        over the replicas. ready: how many there were. queue: requests that wait. What cannot be a sample (no replica,
        no load) is ignored.
        """
        if ready < 1 or completed_rps <= 0 or utilisation < _LEAST_UTILISATION:
            return
        sample = completed_rps / ready / utilisation
        self.samples += 1
        if utilisation < MEASURABLE:
            self._raise_bound(sample)
        elif self._rps is None:
            self._rps = sample
        elif queue >= ready:
            self._move(sample, utilisation)
        else:
            self._raise_bound(sample)
            # What was learned beyond the first guess may be lost again, and not the guess itself.
            if sample < self._rps and self._guess < self._rps:
                self._move(max(sample, self._guess), utilisation)
        rps = self._rps
        if rps is not None and not self._least <= rps <= self._most:
            self._rps = self._least if rps < self._least else self._most

    def _move(self, sample: float, utilisation: float) -> None:
        """Go some of the way to a sample, the further the fuller the replicas were."""
        if self._rps is None:
            return
        fullness = min(1.0, (utilisation - MEASURABLE) / (1.0 - MEASURABLE))
        weight = _SLOW + fullness * (_FAST - _SLOW)
        believable = min(max(sample, self._rps / _OUTLIER), self._rps * _OUTLIER)
        self._rps += weight * (believable - self._rps)

    def _raise_bound(self, sample: float) -> None:
        # Smoothed, clipped and with a margin: the bound must not ride on the luckiest of many noisy samples.
        rps = self._rps
        if rps is None:
            return
        bound = min(sample, rps) if self._bound is None else self._bound
        bound += _BOUND_WEIGHT * ((sample if sample < rps * _OUTLIER else rps * _OUTLIER) - bound)
        self._bound = bound
        if bound * _BOUND_MARGIN > rps:
            self._rps = bound * _BOUND_MARGIN
