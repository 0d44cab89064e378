"""Settings of the predictor."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from services.common.settings import ServiceSettings


class Settings(ServiceSettings):
    """What the predictor is told by its environment."""

    app_id: str = Field(default="predictor", description="Dapr app-id of this service.")
    step_s: int = Field(
        default=60, ge=1, le=3600, description="Seconds in a step; forecasts reach ten steps ahead."
    )
    fine_step_s: int | None = Field(
        default=None,
        ge=1,
        le=600,
        description="Shorter step that is forecast as well, for horizons before the first step's end; none if not set.",
    )
    forecast_every_s: float | None = Field(
        default=None,
        ge=0.2,
        le=60,
        description="Seconds from one forecast to the next; the step, 2 at most, when not set.",
    )
    history_s: int = Field(
        default=18_000,
        ge=60,
        le=86_400,
        description="Seconds of traffic that are kept, in memory and in the store.",
    )
    history_save_s: float = Field(
        default=10.0, ge=1, le=600, description="Seconds from one save of the history to the next."
    )
    history_file: Path | None = Field(
        default=None,
        description="CSV (timestamp,requests; seconds) of what came before the first request; for replays.",
    )
    late_s: int = Field(
        default=10, ge=0, le=60, description="Seconds by which a report may be older than the newest one."
    )
    silence_s: float = Field(
        default=5.0, gt=0, le=600, description="Seconds without a report after which nothing is forecast."
    )
    forecaster: Path = Field(
        default=Path(__file__).parent / "artefacts",
        description="The network: NAME.onnx beside NAME.card.json, or a folder of forecaster.onnx and card.json.",
    )

    @model_validator(mode="after")
    def _history_holds_a_window(self) -> Settings:
        if self.history_s < 2 * self.step_s:
            raise ValueError(
                f"history_s ({self.history_s}) must hold two steps of step_s ({self.step_s}) at least"
            )
        return self

    @property
    def pace_s(self) -> float:
        """Seconds from one forecast to the next."""
        return self.forecast_every_s or min(float(self.step_s), 2.0)
