"""What would have happened otherwise: the sentence that goes with a decision, the same for every policy."""

from __future__ import annotations

from services.autoscaler.decision import percent
from services.autoscaler.observation import Observation


def counterfactual(
    observation: Observation, wanted: int, demand_rps: float | None, *, queue_bound: int
) -> str | None:
    """Say what the step from `observation.wanted` to `wanted` avoids or saves; at no step, what one less
    costs.

    demand_rps: requests per second to be served. queue_bound: requests that one replica lets wait before it
    sheds. None when the demand or the capacity of a replica is not known.
    """
    if demand_rps is None or observation.capacity_rps is None:
        return None
    previous = observation.wanted
    capacity = observation.capacity_rps
    if wanted > previous:
        return f"without this step: {_strain(previous, capacity, demand_rps, observation.queue, queue_bound)}"
    if wanted < previous:
        load = percent(demand_rps / (previous * capacity))
        return f"without this step: {_replicas(previous)} would run at {load} for {demand_rps:.0f} req/s"
    if wanted > 1:
        fewer = _strain(wanted - 1, capacity, demand_rps, observation.queue, queue_bound)
        return f"with one replica fewer: {fewer}"
    load = percent(demand_rps / ((wanted + 1) * capacity))
    return f"with one replica more: {_replicas(wanted + 1)} would run at {load} for {demand_rps:.0f} req/s"


def _strain(replicas: int, capacity: float, demand: float, queue: float, queue_bound: int) -> str:
    if replicas == 0:
        return f"nothing would serve {demand:.0f} req/s"
    limit = replicas * capacity
    short = demand - limit
    if short <= 0:
        return (
            f"{_replicas(replicas)} would run at {percent(demand / limit)}, {demand:.0f} of {limit:.0f} req/s"
        )
    bound = replicas * queue_bound
    left_s = max(0.0, bound - queue) / short
    return (
        f"{_replicas(replicas)} would serve {limit:.0f} req/s, {short:.0f} short, "
        f"queue bound ({bound}) reached in about {left_s:.0f} s"
    )


def _replicas(count: int) -> str:
    return f"{count} replica" if count == 1 else f"{count} replicas"
