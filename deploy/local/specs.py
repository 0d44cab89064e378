"""The command line, environment and readiness of every process of a mesh. Nothing secret is in a command line."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from deploy.local import tools
from deploy.local.ports import Ports
from deploy.local.process import ProcessSpec
from deploy.local.settings import REPO, TRUST_DOMAIN, MeshSettings
from deploy.local.trust import Trust, write_secret

# app-id -> has a port for people (offset from port_base), or None
APPS: dict[str, int | None] = {
    "gateway": 0,
    "routing": None,
    "tokenization": None,
    "inference": None,
    "predictor": None,
    "autoscaler": None,
    "dashboard": 1,
}
SCALABLE = "inference"
PROBE_TIMEOUT = aiohttp.ClientTimeout(total=1.0)


@dataclass
class Specs:
    """Makes specs for one run. `endpoints` remembers where each instance listens now."""

    settings: MeshSettings
    trust: Trust
    ports: Ports
    http: aiohttp.ClientSession
    endpoints: dict[str, dict[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.redis_port = self.ports.free()
        self.sentry_port = self.ports.free()
        self.otlp_port = self.ports.free()
        self.direct = {app: self.ports.free() for app in APPS} if self.settings.wiring == "direct" else {}

    @property
    def run_dir(self) -> Path:
        return self.settings.run_dir

    @property
    def addresses_file(self) -> Path:
        return self.run_dir / "addresses.json"

    @property
    def otlp_endpoint(self) -> str:
        return self.settings.otlp_endpoint or f"http://127.0.0.1:{self.otlp_port}"

    def _log(self, name: str) -> Path:
        return self.run_dir / "logs" / f"{name}.log"

    def _base_env(self) -> dict[str, str]:
        # Only what a process needs: the caller's environment may hold secrets that are none of its business.
        kept = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE")
        ours = {k: v for k, v in os.environ.items() if k in kept or k.startswith("FOREMESH_")}
        return ours | {"PWD": str(REPO)}

    def http_ready(self, port: int, path: str) -> Callable[[], Awaitable[bool]]:
        async def ready() -> bool:
            try:
                async with self.http.get(f"http://127.0.0.1:{port}{path}", timeout=PROBE_TIMEOUT) as reply:
                    return reply.status < 300
            except (aiohttp.ClientError, TimeoutError, OSError):
                return False

        return ready

    # --- infrastructure -------------------------------------------------------------------------------------------

    def redis(self) -> ProcessSpec:
        data = self.run_dir / "redis"
        data.mkdir(mode=0o700, exist_ok=True)
        config = self.trust.folder / "redis.conf"
        write_secret(
            config,
            "\n".join(
                [
                    "bind 127.0.0.1",
                    f"port {self.redis_port}",
                    "protected-mode yes",
                    f"requirepass {self.trust.redis_password}",
                    f"dir {data}",
                    # The log of writes is with the kernel before a reply is sent: kill -9 loses nothing acknowledged.
                    "appendonly yes",
                    "appendfsync everysec",
                    'save ""',
                    "maxmemory 128mb",
                    "maxmemory-policy volatile-ttl",
                    "maxclients 512",
                    "timeout 0",
                    "tcp-keepalive 60",
                    # A configuration store tells of changes; Dapr would turn this on by CONFIG, which is taken away.
                    "notify-keyspace-events Kg$xe",
                    'rename-command CONFIG ""',
                    'rename-command DEBUG ""',
                    'rename-command FLUSHALL ""',
                    "",
                ]
            ),
        )

        async def ready() -> bool:
            try:
                async with asyncio.timeout(1.0):
                    reader, writer = await asyncio.open_connection("127.0.0.1", self.redis_port)
                    writer.write(f"AUTH {self.trust.redis_password}\r\nPING\r\n".encode())
                    reply = await reader.readexactly(len("+OK\r\n+PONG\r\n"))
                    writer.close()
                    return reply == b"+OK\r\n+PONG\r\n"
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                return False

        server = str(tools.redis_server())
        return ProcessSpec(
            "redis",
            "infra",
            (server, str(config)),
            self._base_env(),
            ready,
            self._log("redis"),
            self.redis_port,
        )

    def sentry(self) -> ProcessSpec:
        health = self.ports.free()
        config = self.run_dir / "sentry.yaml"
        write_secret(
            config,
            json.dumps(  # JSON is YAML
                {
                    "apiVersion": "dapr.io/v1alpha1",
                    "kind": "Configuration",
                    "metadata": {"name": "sentry"},
                    "spec": {
                        "mtls": {
                            "enabled": True,
                            "workloadCertTTL": self.settings.cert_ttl,
                            "allowedClockSkew": f"{self.settings.clock_skew_s}s",
                            "tokenValidators": [
                                {
                                    "name": "jwks",
                                    "options": {
                                        "source": str(self.trust.jwks_file),
                                        "minRefreshInterval": "2m",
                                    },
                                }
                            ],
                        }
                    },
                }
            ),
        )
        argv = (
            str(tools.built(tools.SENTRY)), "--mode", "standalone", "--config", str(config),
            "--issuer-credentials", str(self.trust.issuer_dir), "--trust-domain", TRUST_DOMAIN,
            "--port", str(self.sentry_port), "--listen-address", "127.0.0.1",
            "--healthz-port", str(health), "--healthz-listen-address", "127.0.0.1",
            "--log-as-json",
        )  # fmt: skip
        probe = self.http_ready(health, "/healthz")

        async def ready() -> bool:
            return (self.trust.issuer_dir / "ca.crt").exists() and await probe()

        self.trust.issuer_dir.mkdir(mode=0o700, exist_ok=True)
        # Sentry's state is a few MB; a soft limit keeps its collector from growing on a small box.
        env = self._base_env() | {"GOMEMLIMIT": "48MiB"}
        return ProcessSpec("sentry", "infra", argv, env, ready, self._log("sentry"), self.sentry_port)

    def jaeger(self) -> ProcessSpec:
        admin, grpc, unused = self.ports.free(), self.ports.free(), "127.0.0.1:0"
        query = self.settings.port_base + 2
        argv = (
            str(tools.built(tools.JAEGER)), "--memory.max-traces=2000", "--log-level=warn",
            "--query.enable-tracing=false",
            f"--collector.otlp.http.host-port=127.0.0.1:{self.otlp_port}",
            f"--query.http-server.host-port=127.0.0.1:{query}",
            f"--query.grpc-server.host-port=127.0.0.1:{self.ports.free()}",
            f"--admin.http.host-port=127.0.0.1:{admin}",
            f"--collector.otlp.grpc.host-port=127.0.0.1:{grpc}", f"--collector.grpc-server.host-port={unused}",
            f"--collector.http-server.host-port={unused}", f"--http-server.host-port={unused}",
            f"--processor.jaeger-binary.server-host-port={unused}",
            f"--processor.jaeger-compact.server-host-port={unused}",
            f"--processor.zipkin-compact.server-host-port={unused}",
        )  # fmt: skip
        env = self._base_env() | {
            "SPAN_STORAGE_TYPE": "memory",
            "GOMEMLIMIT": "96MiB",
            # It would trace itself into whatever listens on OTLP's default port.
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{grpc}",
            "OTEL_TRACES_SAMPLER": "always_off",
        }
        ready = self.http_ready(query, "/api/services")
        # It holds traces in memory only: waiting for a slow shutdown would save nothing.
        return ProcessSpec("jaeger", "infra", argv, env, ready, self._log("jaeger"), query, stop_within_s=0.5)

    # --- apps -----------------------------------------------------------------------------------------------------

    def app(self, app_id: str, instance: str) -> ProcessSpec:
        port = self.direct.get(app_id) or self.ports.free()
        dapr_port = self.ports.free()
        self.endpoints[instance] = {"app": port, "dapr_http": dapr_port}
        dapr_token, app_token = self.trust.api_tokens(
            app_id if self.settings.wiring != "direct" else "direct"
        )
        env = self._base_env() | {
            "FOREMESH_APP_ID": app_id,
            "FOREMESH_INSTANCE": instance,
            "FOREMESH_HOST": "127.0.0.1",
            "FOREMESH_PORT": str(port),
            "DAPR_HTTP_PORT": str(dapr_port),
            "DAPR_API_TOKEN": dapr_token,
            "APP_API_TOKEN": app_token,
            "FOREMESH_OTLP_ENDPOINT": self.otlp_endpoint,
            "FOREMESH_CATALOG": str(self.settings.catalog),
            "FOREMESH_TRACE_RATIO": str(self.settings.trace_ratio),
            "FOREMESH_STEP_S": str(self.settings.step_s),
            "FOREMESH_CAPACITY_RPS": str(self.settings.capacity_rps),
            "FOREMESH_POLICY": self.settings.policy,
            "FOREMESH_MIN_REPLICAS": str(self.settings.min_replicas),
            "FOREMESH_MAX_REPLICAS": str(self.settings.max_replicas),
            # One arena: glibc otherwise keeps one a thread, tens of MB on a small box.
            "MALLOC_ARENA_MAX": "1",
            "PYTHONUNBUFFERED": "1",
            "OMP_NUM_THREADS": "1",
        }
        if self.direct:
            env["FOREMESH_DIRECT"] = json.dumps({a: f"http://127.0.0.1:{p}" for a, p in self.direct.items()})
        if app_id in ("autoscaler", "dashboard"):
            env["FOREMESH_CONTROL_SOCKET"] = str(self.settings.control_socket)
        if app_id == "predictor":
            env["FOREMESH_HISTORY_FILE"] = str(self.run_dir / "history.csv")
        if app_id == "dashboard":
            env["FOREMESH_JAEGER_URL"] = self.settings.jaeger_url
        if (offset := APPS[app_id]) is not None:
            env["FOREMESH_PUBLIC_PORT"] = str(self.settings.port_base + offset)
        argv: tuple[str, ...] = (sys.executable, "-m", f"services.{app_id}")
        if app_id == "gateway":
            argv = (str(tools.built(tools.GATEWAY)),)
            env |= {
                "FOREMESH_ROUTES": str(REPO / "edge/gateway/routes"),
                "FOREMESH_STATE": str(self.run_dir / "gateway"),
                "GOMEMLIMIT": "64MiB",
            }
        ready = self.http_ready(port, "/readyz")
        return ProcessSpec(instance, "app", argv, env, ready, self._log(instance), port, app_id)

    def sidecar(self, app_id: str, instance: str) -> ProcessSpec:
        where = self.endpoints[instance]
        grpc, internal, metrics = (self.ports.free() for _ in range(3))
        where |= {"internal": internal, "metrics": metrics}
        dapr_token, app_token = self.trust.api_tokens(app_id)
        mtls = self.settings.wiring == "mesh"
        components = REPO / "components"
        overlay = components / "local" / ("installed.yaml" if self.settings.daprd else "mesh.yaml")
        argv = [
            str(tools.sidecar(self.settings.daprd)), "--app-id", app_id,
            "--app-port", str(where["app"]), "--app-protocol", "http", "--dapr-listen-addresses", "127.0.0.1",
            "--dapr-http-port", str(where["dapr_http"]), "--dapr-grpc-port", str(grpc),
            "--dapr-internal-grpc-port", str(internal), "--dapr-internal-grpc-listen-address", "127.0.0.1",
            "--metrics-port", str(metrics), "--metrics-listen-address", "127.0.0.1",
            "--resources-path", str(components / "blocks"), "--config", str(overlay),
            "--max-body-size", "4Mi", "--dapr-graceful-shutdown-seconds", "4", "--log-level", "warn", "--log-as-json",
            "--control-plane-trust-domain", TRUST_DOMAIN, "--sentry-address", f"127.0.0.1:{self.sentry_port}",
        ]  # fmt: skip
        env = self._base_env() | {
            "NAMESPACE": "default",
            "DAPR_HOST_IP": "127.0.0.1",
            "DAPR_API_TOKEN": dapr_token,
            "APP_API_TOKEN": app_token,
            "FOREMESH_REDIS_HOST": f"127.0.0.1:{self.redis_port}",
            "FOREMESH_SECRETS_FILE": str(self.trust.secrets_file),
            "FOREMESH_ADDRESSES_FILE": str(self.addresses_file),
            "FOREMESH_OTLP_HOST": self.otlp_endpoint.removeprefix("http://").removeprefix("https://"),
            "GOMEMLIMIT": "96MiB",
            "GOMAXPROCS": str(self.settings.sidecar_threads),
        }
        if mtls:
            argv += ["--enable-mtls", "--config", str(components / "access" / f"{app_id}.yaml")]
            env["DAPR_TRUST_ANCHORS"] = (self.trust.issuer_dir / "ca.crt").read_text()
            env["DAPR_SENTRY_TOKEN_FILE"] = str(self.trust.join_token_file(app_id))
        ready = self.http_ready(where["dapr_http"], "/v1.0/healthz")
        name = f"{instance}.sidecar"
        return ProcessSpec(name, "sidecar", tuple(argv), env, ready, self._log(name), internal, app_id)
