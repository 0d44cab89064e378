"""What can be set about a mesh on one machine: flags of `foremesh up`, or FOREMESH_* in the environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

REPO = Path(__file__).resolve().parents[2]
TRUST_DOMAIN = "foremesh.local"
PORTS_FOR_PEOPLE = 3  # gateway, dashboard, Jaeger; everything else is allocated from port_base + 10

Wiring = Literal["mesh", "plaintext", "direct"]


class MeshSettings(BaseSettings):
    """One mesh. Frozen; the run directory is derived from the port base, so two meshes never share a file."""

    model_config = SettingsConfigDict(env_prefix="FOREMESH_", frozen=True)

    port_base: Annotated[
        int,
        Field(
            ge=1024,
            le=65000,
            description="gateway here, dashboard on +1, Jaeger on +2, the rest from +10; it names the mesh",
        ),
    ] = 8700
    state_dir: Annotated[Path, Field(description="where run directories live")] = REPO / ".foremesh"
    wiring: Annotated[
        Wiring,
        Field(
            description="mesh: sidecars with mTLS; plaintext and direct exist for `foremesh bench mesh` only"
        ),
    ] = "mesh"
    catalog: Annotated[Path, Field(description="folder of the model catalog")] = REPO / "models/catalog"
    daprd: Annotated[
        str,
        Field(
            description="path of an installed daprd of the same minor version to use instead of edge/sidecar"
        ),
    ] = ""
    cert_ttl: Annotated[
        str, Field(pattern=r"^\d+(s|m|h)$", description="lifetime of a workload certificate")
    ] = "1h"
    replicas: Annotated[int, Field(ge=1, le=16, description="inference replicas at start")] = 1
    min_replicas: Annotated[int, Field(ge=1, le=16, description="fewest inference replicas")] = 1
    max_replicas: Annotated[int, Field(ge=1, le=16, description="most inference replicas")] = 4
    replica_cpu: Annotated[
        float, Field(ge=0.01, le=64, description="CPU quota of an inference replica, in cores")
    ] = 0.05
    cpu_limit: Annotated[
        Literal["auto", "cgroup", "threads"],
        Field(description="how a replica is held to its quota; auto takes cgroup where it is permitted"),
    ] = "auto"
    sidecar_procs: Annotated[
        int,
        Field(
            ge=0,
            le=64,
            description="threads that run a sidecar's code at once (GOMAXPROCS); 0: half of the machine's cores",
        ),
    ] = 0
    policy: Annotated[
        str,
        Field(
            pattern=r"^(predictive|hpa|kpa|keda|persistence|trend|static:\d+)$",
            description="predictive, hpa, kpa, keda, persistence, trend or static:N",
        ),
    ] = "predictive"
    capacity_rps: Annotated[
        float, Field(gt=0, description="first guess of the requests per second of one replica")
    ] = 200.0
    step_s: Annotated[int, Field(ge=1, le=3600, description="seconds in one step of the forecaster")] = 60
    otlp_endpoint: Annotated[
        str,
        Field(description="OTLP/HTTP collector, e.g. http://collector:4318; empty: the mesh's own Jaeger"),
    ] = ""
    trace_ratio: Annotated[float, Field(ge=0, le=1, description="share of requests traced")] = 0.01
    log_mb: Annotated[int, Field(ge=1, le=1024, description="size at which a log file is rotated, MB")] = 8

    @model_validator(mode="after")
    def _replicas_within_bounds(self) -> Self:
        if not self.min_replicas <= self.replicas <= self.max_replicas:
            raise ValueError(
                f"replicas {self.replicas} is outside min-replicas {self.min_replicas} "
                f".. max-replicas {self.max_replicas}"
            )
        return self

    @property
    def run_dir(self) -> Path:
        """Secrets, sockets, logs and Redis data of this mesh, mode 0700."""
        return self.state_dir / f"mesh-{self.port_base}"

    @property
    def clock_skew_s(self) -> int:
        """How far a certificate is dated back. It is renewed half-way through its life as dated: more than a small part
        of that life, and it would be renewed without end."""
        number, unit = int(self.cert_ttl[:-1]), {"s": 1, "m": 60, "h": 3600}[self.cert_ttl[-1]]
        return min(60, max(1, number * unit // 12))

    @property
    def sidecar_threads(self) -> int:
        """GOMAXPROCS of a sidecar. A hop is a chain of small steps: on as many threads as there are cores, a quarter
        of a busy sidecar's time went into waking and looking for work, taken from the app beside it."""
        return self.sidecar_procs or max(1, (os.cpu_count() or 1) // 2)

    @property
    def gateway_url(self) -> str:
        return f"http://127.0.0.1:{self.port_base}"

    @property
    def dashboard_url(self) -> str:
        return f"http://127.0.0.1:{self.port_base + 1}"

    @property
    def jaeger_url(self) -> str:
        return f"http://127.0.0.1:{self.port_base + 2}"

    @property
    def control_socket(self) -> Path:
        # A Unix socket's path is limited to 107 bytes; a run directory deep in a home can be longer.
        path = self.run_dir / "control.sock"
        if len(str(path)) <= 100:
            return path
        import hashlib  # noqa: PLC0415 (rare branch)

        return Path("/tmp") / f"foremesh-{hashlib.sha256(str(path).encode()).hexdigest()[:16]}.sock"  # noqa: S108
