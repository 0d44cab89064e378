"""Settings of the autoscaler."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from services.autoscaler.policies import PolicyOptions, policy_from
from services.autoscaler.policies.kpa import Metric
from services.autoscaler.policies.predictive import SLO_S
from services.common.settings import ServiceSettings


class Settings(ServiceSettings):
    """What the autoscaler is told by its environment."""

    app_id: str = Field(default="autoscaler", description="Dapr app-id of this service.")
    policy: str = Field(
        default="predictive",
        description="Policy that decides: predictive, hpa, kpa, keda, persistence, trend or static:N.",
    )
    target_app: str = Field(default="inference", min_length=1, description="App whose replicas are scaled.")
    control_socket: Path = Field(
        default=Path(),
        validate_default=True,
        description="Unix socket of the supervisor's control API; nothing can be scaled without it.",
    )
    actuator_timeout_s: float = Field(
        default=0.8, gt=0, le=30, description="Seconds after which a call to the actuator is given up."
    )
    tick_s: float = Field(default=2.0, ge=0.1, le=60, description="Seconds between two decisions.")
    min_replicas: int | None = Field(
        default=None, ge=0, description="Fewest replicas; not below the actuator's own bound, its default."
    )
    max_replicas: int | None = Field(
        default=None, ge=1, description="Most replicas; not above the actuator's own bound, its default."
    )
    capacity_rps: float | None = Field(
        default=None,
        gt=0,
        description="First guess of the requests per second of one replica at all of its quota; else learned "
        "from scratch, and replicas are held until it is.",
    )
    target_utilisation: float = Field(
        default=0.85, gt=0, le=1, description="Share of a replica's capacity that `predictive` uses."
    )
    price: Annotated[float, Field(gt=0, le=1e6)] | Literal["auto"] = Field(
        default="auto",
        description="What a missing replica costs `predictive` against one too many: it provides for the quantile "
        "price / (price + 1) of the load to come. auto: the lowest price at which too few are had for a "
        "quarter of the time for which Kubernetes' HPA would have had too few, for less waste than its.",
    )
    slo_s: float = Field(
        default=SLO_S,
        gt=0,
        le=3600,
        description="Seconds that a request may take; `predictive` keeps 99 % within.",
    )
    forecast_max_age_s: float | None = Field(
        default=None, gt=0, description="Seconds after which a forecast is not used; 3 ticks when not set."
    )
    hpa_target: float = Field(
        default=0.7, ge=0.01, le=1, description="Share of the CPU quota that `hpa` aims at."
    )
    kpa_target: float = Field(
        default=0.7, gt=0, le=1, description="Share of a replica's capacity that `kpa` aims at."
    )
    kpa_metric: Metric = Field(default="rps", description="What `kpa` counts: rps or concurrency.")
    kpa_concurrency: float = Field(
        default=100.0, gt=0, description="Requests at a time that a replica takes, for `kpa` on concurrency."
    )
    keda_target: float = Field(
        default=0.7, gt=0, le=1, description="Share of a replica's capacity that `keda` aims at."
    )
    headroom: float = Field(
        default=0.2, ge=0, le=10, description="Share that `persistence` and `trend` add to the load they see."
    )
    queue_bound: int = Field(
        default=512, ge=1, description="Requests that wait at one replica before it sheds; foretold, not set."
    )
    calm_latency_s: float = Field(
        default=0.1, gt=0, description="Seconds a request takes when it has not to wait; more is a queue."
    )
    start_guard_s: float = Field(
        default=30.0, ge=0, description="Seconds after a start in which replicas are only added."
    )

    @field_validator("policy")
    @classmethod
    def _known_policy(cls, spec: str) -> str:
        policy_from(spec)
        return spec

    @field_validator("control_socket")
    @classmethod
    def _some_socket(cls, path: Path) -> Path:
        if path == Path():
            raise ValueError(
                "FOREMESH_CONTROL_SOCKET must name the Unix socket of the supervisor's control API"
            )
        return path

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        least, most = self.min_replicas, self.max_replicas
        if least is not None and most is not None and least > most:
            raise ValueError(f"FOREMESH_MIN_REPLICAS {least} is above FOREMESH_MAX_REPLICAS {most}")
        return self

    @property
    def options(self) -> PolicyOptions:
        """The policies' share of the settings."""
        return PolicyOptions(
            tick_s=self.tick_s,
            price=None if self.price == "auto" else self.price,
            target_utilisation=self.target_utilisation,
            slo_s=self.slo_s,
            forecast_max_age_s=self.forecast_max_age_s,
            hpa_target=self.hpa_target,
            kpa_target=self.kpa_target,
            kpa_metric=self.kpa_metric,
            kpa_concurrency=self.kpa_concurrency,
            keda_target=self.keda_target,
            headroom=self.headroom,
            queue_bound=self.queue_bound,
        )
