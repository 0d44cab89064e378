"""Policies: an observation in, a decision out. One file each; time comes in with the observation.

The same objects run live and in the lab. A new one needs a file here and a line in `_MAKERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from services.autoscaler.decision import Decision
from services.autoscaler.observation import Observation
from services.autoscaler.policies.hpa import Hpa
from services.autoscaler.policies.keda import Keda
from services.autoscaler.policies.kpa import Kpa, Metric
from services.autoscaler.policies.persistence import Persistence
from services.autoscaler.policies.predictive import SLO_S, Predictive
from services.autoscaler.policies.static import Static
from services.autoscaler.policies.trend import Trend


class Policy(Protocol):
    """A rule with a small state of its own: the same observations in turn give the same decisions."""

    @property
    def name(self) -> str:
        """What `Decision.policy` says."""

    def decide(self, observation: Observation) -> Decision:
        """How many replicas from now on, and why. Called once a tick; never raises."""


@dataclass(frozen=True)
class PolicyOptions:
    """The knobs of all policies; each takes its own. The rivals' defaults are their own."""

    tick_s: float = 2.0
    price: float | None = None
    target_utilisation: float = 0.85
    slo_s: float = SLO_S
    forecast_max_age_s: float | None = None
    hpa_target: float = 0.7
    kpa_target: float = 0.7
    kpa_metric: Metric = "rps"
    kpa_concurrency: float = 100.0
    keda_target: float = 0.7
    headroom: float = 0.2
    queue_bound: int = 512


_MAKERS: dict[str, Callable[[PolicyOptions], Policy]] = {
    "predictive": lambda o: Predictive(
        tick_s=o.tick_s,
        price=o.price,
        target_utilisation=o.target_utilisation,
        slo_s=o.slo_s,
        queue_bound=o.queue_bound,
        forecast_max_age_s=o.forecast_max_age_s,
    ),
    "hpa": lambda o: Hpa(target=o.hpa_target, queue_bound=o.queue_bound),
    "kpa": lambda o: Kpa(
        target=o.kpa_target, metric=o.kpa_metric, concurrency=o.kpa_concurrency, queue_bound=o.queue_bound
    ),
    "keda": lambda o: Keda(target=o.keda_target, queue_bound=o.queue_bound),
    "persistence": lambda o: Persistence(headroom=o.headroom, queue_bound=o.queue_bound),
    "trend": lambda o: Trend(headroom=o.headroom, tick_s=o.tick_s, queue_bound=o.queue_bound),
}

CHOICES = (*_MAKERS, "static:N")


def policy_from(spec: str, options: PolicyOptions | None = None) -> Policy:
    """A new policy from one of `CHOICES`; any other: ValueError with the choices."""
    options = options or PolicyOptions()
    kind, _, count = spec.strip().partition(":")
    if kind == "static" and count.isascii() and count.isdigit():
        return Static(int(count), queue_bound=options.queue_bound)
    if kind in _MAKERS and not count and ":" not in spec:
        return _MAKERS[kind](options)
    raise ValueError(f"policy {spec!r} is not known ({', '.join(CHOICES)}; N: replicas, such as static:2)")


__all__ = [
    "CHOICES",
    "Hpa",
    "Keda",
    "Kpa",
    "Persistence",
    "Policy",
    "PolicyOptions",
    "Predictive",
    "Static",
    "Trend",
    "policy_from",
]
