"""Settings of the tokenization service."""

from __future__ import annotations

from pydantic import Field

from services.common.settings import ServiceSettings


class Settings(ServiceSettings):
    """What tokenization is told by its environment."""

    app_id: str = Field(default="tokenization", description="Dapr app-id of this service.")
    tier: str = Field(
        default="tiny", description="Tier whose tokenizer stands for its model; the smallest if absent."
    )
    max_texts: int = Field(default=256, ge=1, description="Texts in one call; more are refused.")
    inline_characters: int = Field(
        default=4096,
        ge=0,
        description="Calls of at most this many characters run in the event loop, larger ones in a thread.",
    )
    max_threaded_calls: int = Field(
        default=16, ge=1, description="Large calls that may wait for the encoding thread; more get a 503."
    )
    watch_s: float = Field(
        default=2.0, gt=0, description="Seconds between looks at the catalog for new or changed models."
    )
