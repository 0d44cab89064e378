"""`foremesh up`: start a mesh and leave it running."""

from __future__ import annotations

import json as jsonlib
import signal
import subprocess
import time
from typing import Annotated

import typer
from rich.console import Console

from foremesh import mesh
from foremesh.options import Json, PortBase, exits, mesh_settings


@exits
def up(
    port_base: PortBase = 8700,
    foreground: Annotated[
        bool, typer.Option("--foreground", "-f", help="Stay here until Ctrl-C, then stop the mesh.")
    ] = False,
    replicas: Annotated[int | None, typer.Option(help="Inference replicas at start.")] = None,
    max_replicas: Annotated[int | None, typer.Option(help="Most inference replicas.")] = None,
    policy: Annotated[
        str | None, typer.Option(help="predictive, hpa, kpa, keda, persistence, trend or static:N.")
    ] = None,
    replica_cpu: Annotated[float | None, typer.Option(help="CPU quota of a replica, in cores.")] = None,
    cpu_limit: Annotated[
        str | None, typer.Option(help="auto, cgroup or threads: how a replica is held to it.")
    ] = None,
    cert_ttl: Annotated[
        str | None, typer.Option(help="Lifetime of a workload certificate, e.g. 60s, 1h.")
    ] = None,
    daprd: Annotated[
        str | None, typer.Option(help="An installed daprd of the same minor version to use.")
    ] = None,
    otlp_endpoint: Annotated[
        str | None, typer.Option(help="OTLP/HTTP collector instead of the mesh's own Jaeger.")
    ] = None,
    json: Json = False,
) -> None:
    """Start the mesh: Redis, Dapr's sentry, Jaeger, seven apps and a sidecar for each.

    Returns once every process is ready; the mesh stays up until `foremesh down`. Two meshes live side by side on
    different port bases (at least 200 apart). `foremesh settings` lists everything that can be set.

    Exit codes: 0 serving, 1 did not start (the message names the process and shows the end of its log), 2 bad usage.
    """
    settings = mesh_settings(
        port_base, replicas=replicas, max_replicas=max_replicas, policy=policy, replica_cpu=replica_cpu,
        cpu_limit=cpu_limit, cert_ttl=cert_ttl, daprd=daprd, otlp_endpoint=otlp_endpoint,
    )  # fmt: skip
    console = Console(stderr=json)
    began = time.monotonic()
    with console.status("starting the mesh"):
        child = mesh.start(settings, leash=foreground)
    took = time.monotonic() - began
    if json:
        started = {
            "gateway_url": settings.gateway_url,
            "dashboard_url": settings.dashboard_url,
            "jaeger_url": settings.jaeger_url,
            "run_dir": str(settings.run_dir),
            "pid": child.pid,
            "started_s": round(took, 2),
        }
        print(jsonlib.dumps(started), flush=True)
    else:
        console.print(
            f"[bold green]up[/] in {took:.1f} s   gateway {settings.gateway_url}   page {settings.dashboard_url}"
        )
        console.print(
            f"ask it: foremesh ask 'turn on the kitchen light'   end it: {'Ctrl-C' if foreground else 'foremesh down'}"
        )
    if foreground:
        stay(child)


def stay(child: subprocess.Popen[bytes]) -> None:
    """Wait for Ctrl-C or SIGTERM, then stop the mesh in order."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        child.wait()
    except KeyboardInterrupt:
        mesh.stop(child)
