"""What the dashboard is told by its environment."""

from __future__ import annotations

from pydantic import Field

from services.common.settings import ServiceSettings


class Settings(ServiceSettings):
    """Settings of the dashboard, all of them `FOREMESH_*`."""

    app_id: str = Field(default="dashboard", description="Dapr app-id of this service.")
    public_port: int = Field(
        default=8701,
        ge=0,
        le=65535,
        description="Port where people find the page.",
    )
    public_names: tuple[str, ...] = Field(
        default=("127.0.0.1", "localhost"),
        description="Host names the page answers to; others are refused (DNS rebinding).",
    )
    control_socket: str = Field(default="", description="Unix socket of the supervisor; empty: no picture.")
    jaeger_url: str = Field(
        default="", description="Jaeger's query API, such as http://127.0.0.1:8702; empty: no traces."
    )
    scaled_app: str = Field(default="inference", description="App whose replicas are drawn.")
    chart_s: float = Field(
        default=900.0, gt=0, le=86400, description="Seconds of history that a page gets when it connects."
    )
    max_clients: int = Field(default=32, ge=1, description="Pages open at once; the next one gets a 503.")
    client_queue: int = Field(
        default=256, ge=1, description="Updates that wait for a slow page; then the oldest goes."
    )
    keep_alive_s: float = Field(default=10.0, gt=0, description="Seconds of silence before a keep-alive.")
    mesh_poll_s: float = Field(default=2.0, gt=0, description="Seconds between two looks at the supervisor.")
