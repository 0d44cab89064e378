"""`foremesh status`: what runs, how it is, what it costs."""

from __future__ import annotations

import json as jsonlib
import time

from rich.console import Console
from rich.table import Table

from foremesh.mesh import MeshClient
from foremesh.options import Json, PortBase, exits, mesh_settings

COLOURS = {"ready": "green", "starting": "yellow", "backoff": "red", "draining": "cyan"}


@exits
def status(port_base: PortBase = 8700, json: Json = False) -> None:
    """Every process of the mesh: state, restarts, memory (PSS), CPU, and the identity seen on the wire.

    Exit codes: 0 all ready, 1 something is not, 3 no mesh is up.
    """
    document = MeshClient(mesh_settings(port_base)).status()
    if json:
        print(jsonlib.dumps(document, indent=2))
    else:
        show(document)
    if any(p["state"] not in ("ready", "draining") for p in document["processes"]):
        raise SystemExit(1)


def show(document: dict) -> None:  # type: ignore[type-arg]
    """Print a status document as a table."""
    seen = {i["instance"]: i for i in document["identities"]}
    table = Table(box=None, header_style="bold")
    for name in ("process", "state", "pid", "port", "ready in", "up", "restarts"):
        table.add_column(name, no_wrap=True)
    table.add_column("PSS MB", justify="right")
    table.add_column("CPU s", justify="right")
    table.add_column("identity", no_wrap=True)
    for p in document["processes"]:
        who = seen.get(p["name"].removesuffix(".sidecar")) if p["kind"] == "sidecar" else None
        identity = ""
        if who:
            left = (who["not_after"] - time.time()) / 60
            identity = f"{who['spiffe_id']}  {left:.0f} min" if who["mtls"] else "[red]no mTLS[/]"
        ready = f"{p['ready_s']:.2f} s" if p["ready_s"] is not None else "-"
        table.add_row(
            p["name"], f"[{COLOURS.get(p['state'], 'red')}]{p['state']}[/]", str(p["pid"] or "-"), str(p["port"]),
            ready,
            f"{p['uptime_s']:.0f} s", str(p["restarts"]), f"{p['pss_mb']:.1f}", f"{p['cpu_s']:.1f}", identity,
        )  # fmt: skip
    console = Console()
    console.print(table)
    total = sum(p["pss_mb"] for p in document["processes"])
    hops = document["hops"]
    console.print(
        f"{len(document['processes'])} processes, {total:.0f} MB together; "
        f"hops so far: {hops['mtls']} mTLS, {hops['plaintext']} plaintext"
    )
    console.print(
        f"gateway {document['gateway_url']}   page {document['dashboard_url']}   run directory {document['run_dir']}"
    )
