"""Settings of the routing service."""

from __future__ import annotations

from pydantic import Field

from services.common.settings import ServiceSettings


class Settings(ServiceSettings):
    """What routing is told by its environment."""

    app_id: str = Field(default="routing", description="Dapr app-id of this service.")
    tier: str = Field(
        default="tiny", description="Tier that answers for its model; the smallest of the model if absent."
    )
    watch_s: float = Field(
        default=2.0, gt=0, description="Seconds between looks at the catalog for new models."
    )
    latency_budget_ms: float = Field(
        default=5000.0, gt=0, le=60000, description="Time that a request has when it names no budget itself."
    )
    call_timeout_s: float = Field(
        default=5.0, gt=0, description="Longest time one call to tokenization or inference may take."
    )
    max_items: int = Field(default=256, ge=1, description="Requests in one coalesced call; more are refused.")
    max_batch: int = Field(
        default=64, ge=1, description="Items that one call to the next service carries at most."
    )
    tokenization_calls: int = Field(
        default=2, ge=1, description="Calls to tokenization that are out at once."
    )
    inference_calls: int = Field(
        default=8, ge=1, description="Calls to inference that are out at once, so that all its replicas work."
    )
    queue_items: int = Field(
        default=1024, ge=1, description="Items that may wait for a call, per hop; more are shed with a 503."
    )
    answers_kept: int = Field(
        default=4096, ge=0, description="Answers kept in memory for the time when inference is out of reach."
    )
    answers_ttl_s: int = Field(
        default=600, ge=1, description="Seconds for which a kept answer counts as fresh."
    )
    answers_per_s: int = Field(
        default=200,
        ge=0,
        description="Kept answers that are mirrored to Redis per second at most; 0 mirrors none.",
    )
    sessions_ttl_s: int = Field(
        default=86400, ge=1, description="Seconds after its last change for which a session is kept."
    )
    sessions_waiting: int = Field(
        default=1000, ge=1, description="Sessions whose turns may wait to be written; the oldest are dropped."
    )
