"""One replica as the laboratory sees it: a server that answers in batches and sheds what would wait too long."""

from __future__ import annotations

from dataclasses import dataclass

PLANNED_UTILISATION = 0.85
"""Share of its capacity that a replica is planned with: the unit of `need`."""


@dataclass(frozen=True, slots=True)
class Server:
    """A batch of n requests takes `setup_s + n * each_s`; at most `max_batch` are answered together.

    capacity_rps: requests per second that keep a replica busy all the time when it answers them one by one, so that
    below it busy time is rate / capacity; batches are what it gains beyond. overhead: share of the time of a lone
    request that a batch pays once (0: batching gains nothing). deadline_s: a request that would wait longer is shed at
    its arrival. queue_bound: requests that wait for one replica before it sheds. slo_s: what an answer may take.
    planned_utilisation: share of the capacity that it takes while it keeps its promise on latency.
    """

    capacity_rps: float = 5.0
    overhead: float = 0.2
    max_batch: int = 8
    deadline_s: float = 2.0
    queue_bound: int = 64
    slo_s: float = 1.0
    planned_utilisation: float = PLANNED_UTILISATION

    def __post_init__(self) -> None:
        """Raises ValueError naming the field that makes no sense."""
        for name in ("capacity_rps", "deadline_s", "slo_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"server: {name} {getattr(self, name)} is not above zero")
        if not 0 < self.planned_utilisation <= 1:
            raise ValueError(f"server: planned_utilisation {self.planned_utilisation} is outside 0..1")
        if not 0 <= self.overhead < 1:
            raise ValueError(f"server: overhead {self.overhead} is outside 0..1")
        if self.max_batch < 1 or self.queue_bound < 1:
            raise ValueError("server: max_batch and queue_bound must be 1 at least")

    @property
    def each_s(self) -> float:
        """Seconds that each request of a batch adds."""
        return (1 - self.overhead) / self.capacity_rps

    @property
    def setup_s(self) -> float:
        """Seconds that a batch takes whatever is in it."""
        return self.overhead / self.capacity_rps

    @property
    def planned_rps(self) -> float:
        """Requests per second that one replica takes while it keeps its promise on latency."""
        return self.capacity_rps * self.planned_utilisation
