"""What every Python service is told by its environment.

Each service subclasses `ServiceSettings` as `services/<app>/settings.py: Settings`; every field carries a
description, so `foremesh settings` can list them all.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


class ServiceSettings(BaseSettings):
    """Settings that all services share; raises pydantic's `ValidationError`, naming the variable, when one is
    wrong.
    """

    model_config = SettingsConfigDict(
        env_prefix="FOREMESH_", frozen=True, extra="ignore", populate_by_name=True, hide_input_in_errors=True
    )

    app_id: str = Field(default="app", description="Dapr app-id of this service.")
    instance: str = Field(
        default_factory=lambda given: str(given["app_id"]),
        description="Name of this replica, such as `inference-2`; the app-id when not set.",
    )
    host: str = Field(default="127.0.0.1", description="Address the service listens on.")
    port: int = Field(
        default=8000, ge=0, le=65535, description="Port the service listens on for its sidecar."
    )
    otlp_endpoint: str = Field(
        default="", description="OTLP/HTTP collector, such as http://127.0.0.1:4318; empty exports nothing."
    )
    catalog: Path = Field(
        default=Path("models/catalog"), description="Folder of the model catalog: <model>/<tier>/."
    )
    dapr_http_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        validation_alias=AliasChoices("DAPR_HTTP_PORT", "dapr_http_port"),
        description="HTTP port of this service's own Dapr sidecar; 0 means that there is none.",
    )
    dapr_api_token: SecretStr = Field(
        default=SecretStr(""),
        validation_alias=AliasChoices("DAPR_API_TOKEN", "dapr_api_token"),
        description="Token that this service sends to its sidecar.",
    )
    app_api_token: SecretStr = Field(
        default=SecretStr(""),
        validation_alias=AliasChoices("APP_API_TOKEN", "app_api_token"),
        description="Token that callers of this service must send; while it is empty every call is refused.",
    )
    direct: dict[str, str] = Field(
        default_factory=dict,
        description='JSON {"app-id": "http://127.0.0.1:port"}: call these without a sidecar (benchmarks).',
    )
    trace_ratio: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        description="Share of the traces begun here that are sampled; a caller decides for its own.",
    )
    log_level: str = Field(
        default="INFO",
        pattern="^(DEBUG|INFO|WARNING|ERROR)$",
        description="Lowest level that is logged: DEBUG, INFO, WARNING or ERROR.",
    )
    max_connections: int = Field(
        default=1024,
        ge=1,
        description="Connections, and requests in flight, beyond which new ones get a 503.",
    )
    max_body_bytes: int = Field(
        default=8 * 1024 * 1024,
        ge=1024,
        description="Largest request body that is read; larger ones get a 413.",
    )


def explain(error: ValidationError, settings_class: type[ServiceSettings]) -> str:
    """Return what is wrong with each setting, separated by "; ": its variable, its value unless it is secret, what is
    expected."""
    lines = []
    for wrong in error.errors(include_url=False, include_input=False):
        if not wrong["loc"]:  # a rule about several settings; it names them itself
            lines.append(wrong["msg"].removeprefix("Value error, "))
            continue
        name = str(wrong["loc"][0]).lower()
        field = settings_class.model_fields.get(name)
        # Those with a name of their own are Dapr's; a HOST or PORT in the environment is none of our settings.
        variable = name.upper()
        if field is None or not field.validation_alias:
            variable = f"FOREMESH_{variable.removeprefix('FOREMESH_')}"
        secret = field is not None and field.annotation is SecretStr
        value = "***" if secret else repr(os.environ.get(variable, ""))
        lines.append(f"{variable}={value}: {wrong['msg']}")
    return "; ".join([*lines, "`foremesh settings` lists what can be set"])
