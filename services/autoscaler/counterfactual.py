"""What would have happened otherwise: the sentence that goes with a decision, the same for every policy."""

from __future__ import annotations

import msgspec

from services.autoscaler.observation import Observation


class Counterfactual(msgspec.Struct, frozen=True):
    """What the step from `previous` to `wanted` replicas avoids or saves; at no step, what one less costs.

    demand_rps: requests per second to be served. capacity_rps: requests per second of one replica. queue: requests
    that wait now. queue_bound: requests that one replica lets wait before it sheds.
    """

    previous: int
    wanted: int
    demand_rps: float
    capacity_rps: float
    queue: float
    queue_bound: int

    @property
    def text(self) -> str:
        """The sentence."""
        if self.wanted > self.previous:
            return f"without this step: {self._strain(self.previous)}"
        if self.wanted < self.previous:
            return f"without this step: {self._load(self.previous)}"
        if self.wanted > 1:
            return f"with one replica fewer: {self._strain(self.wanted - 1)}"
        return f"with one replica more: {self._load(self.wanted + 1)}"

    def _load(self, replicas: int) -> str:
        load = percent(self.demand_rps / (replicas * self.capacity_rps))
        return f"{_replicas(replicas)} would run at {load} for {self.demand_rps:.0f} req/s"

    def _strain(self, replicas: int) -> str:
        demand = self.demand_rps
        if replicas == 0:
            return f"nothing would serve {demand:.0f} req/s"
        limit = replicas * self.capacity_rps
        short = demand - limit
        if short <= 0:
            share = percent(demand / limit)
            return f"{_replicas(replicas)} would run at {share}, {demand:.0f} of {limit:.0f} req/s"
        bound = replicas * self.queue_bound
        left_s = max(0.0, bound - self.queue) / short
        return (
            f"{_replicas(replicas)} would serve {limit:.0f} req/s, {short:.0f} short, "
            f"queue bound ({bound}) reached in about {left_s:.0f} s"
        )


def counterfactual(
    observation: Observation, wanted: int, demand_rps: float | None, *, queue_bound: int
) -> Counterfactual | None:
    """What goes with the step from `observation.wanted` to `wanted`; see Counterfactual.

    None when the demand or the capacity of a replica is not known.
    """
    if demand_rps is None or observation.capacity_rps is None:
        return None
    return Counterfactual(
        observation.wanted, wanted, demand_rps, observation.capacity_rps, observation.queue, queue_bound
    )


def percent(share: float) -> str:
    """0.85 as `85 %`."""
    return f"{share * 100:.0f} %"


def _replicas(count: int) -> str:
    return f"{count} replica" if count == 1 else f"{count} replicas"
