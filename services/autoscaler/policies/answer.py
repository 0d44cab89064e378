"""The end of every policy: a count within the bounds, its reasons, and what would happen without the step."""

from __future__ import annotations

from services.autoscaler.counterfactual import counterfactual
from services.autoscaler.decision import Decision, Reason
from services.autoscaler.observation import Observation


def answered(
    name: str,
    observation: Observation,
    replicas: float,
    demand_rps: float | None,
    *reasons: Reason,
    queue_bound: int,
    forecast_rps: float | None = None,
) -> Decision:
    """The decision of a policy that wants `replicas`, a real number that is rounded up and brought within the bounds.
    demand_rps: the load that the counterfactual speaks of, None where none is known."""
    wanted = observation.bounded(replicas)
    otherwise = counterfactual(observation, wanted, demand_rps, queue_bound=queue_bound)
    return Decision(observation.now, name, wanted, observation.wanted, reasons, otherwise, forecast_rps)


def out_of_bounds(observation: Observation, wanted: int) -> tuple[Reason, ...]:
    """Why a count becomes another by the bounds; nothing where it does not."""
    if observation.min_replicas <= wanted <= observation.max_replicas:
        return ()
    bounds = (wanted, observation.min_replicas, observation.max_replicas)
    return (Reason("bounds", "{} is outside {}..{}", bounds),)
