"""Settings of the inference service."""

from __future__ import annotations

from pydantic import Field

from services.common.settings import ServiceSettings


class Settings(ServiceSettings):
    """What inference is told by its environment."""

    app_id: str = Field(default="inference", description="Dapr app-id of this service.")
    model: str = Field(
        default="intent",
        description="Model of the catalog that is loaded at the start and stays; others come when asked for.",
    )
    tier: str = Field(default="tiny", description="Its tier.")
    tiers: str = Field(
        default="",
        pattern=r"^[a-z0-9-]*(,[a-z0-9-]+)*$",
        description="Further tiers of FOREMESH_MODEL that are loaded at the start and stay, such as mini,base: routing "
        "chooses among them by a request's latency budget and accuracy.",
    )
    queue_items: int = Field(
        default=512, ge=1, description="Items that may wait for a run; more are shed with a 503."
    )
    queue_s: float = Field(
        default=2.0,
        ge=0,
        description="Seconds that what waits for a run may take; while it takes longer, more is shed with a 503. 0: "
        "no bound.",
    )
    max_batch: int = Field(default=32, ge=1, description="Items that go into one run at most.")
    max_items: int = Field(default=256, ge=1, description="Items in one call; more are refused.")
    threads: int = Field(default=1, ge=1, description="Threads that ONNX Runtime uses inside one run.")
    memory_mb: float = Field(
        default=0.0,
        ge=0,
        description="Resident memory, 10^6 bytes, beyond which a model is loaded only when another one goes; 0: no "
        "bound.",
    )
    idle_s: float = Field(
        default=600.0,
        ge=0,
        description="Seconds without a call after which a model goes from memory; FOREMESH_MODEL.FOREMESH_TIER "
        "stays. 0: never.",
    )
    catalog_every_s: float = Field(
        default=2.0,
        gt=0,
        description="Seconds between two looks at the catalog, at idle models and at the memory.",
    )
    registry_every_s: float = Field(
        default=60.0, gt=0, description="Seconds between two registrations of the model in the registry."
    )
    registry_attempts: int = Field(
        default=8,
        ge=1,
        description="Attempts per registration, with growing pauses, before it waits its turn.",
    )
