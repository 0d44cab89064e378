"""`foremesh settings`: everything that can be set, where, and what it is now."""

from __future__ import annotations

import importlib
import json as jsonlib
import os
import subprocess
import sys
from typing import Any

from pydantic_settings import BaseSettings
from rich.console import Console
from rich.table import Table

from deploy.local import tools
from foremesh.options import Json

ROOMS = {
    "mesh": ("deploy.local.settings", "MeshSettings"),
    "services": ("services.common.settings", "ServiceSettings"),
    "routing": ("services.routing.settings", "Settings"),
    "tokenization": ("services.tokenization.settings", "Settings"),
    "inference": ("services.inference.settings", "Settings"),
    "predictor": ("services.predictor.settings", "Settings"),
    "autoscaler": ("services.autoscaler.settings", "Settings"),
    "dashboard": ("services.dashboard.settings", "Settings"),
}

# What the supervisor tells each process: who it is, where to listen, whom to ask. Set here they would do nothing.
ASSIGNED = {
    "app_id", "instance", "host", "port", "dapr_http_port", "dapr_api_token", "app_api_token", "direct",
    "control_socket", "public_port", "jaeger_url", "history_file", "routes", "state",
}  # fmt: skip


def settings(json: Json = False) -> None:
    """List every setting: the environment variable, what it does, its default, and its value here if it is set.

    `mesh` settings belong to the mesh, most of them are flags of `foremesh up`; those of `services` hold for each of
    its Python services; those of `gateway` are told by the gateway itself, once it is built. All are taken from the
    environment of `foremesh up`: FOREMESH_QUEUE_ITEMS=64 foremesh up.
    Secrets are never settings and never shown.

    Exit codes: 0 listed.
    """
    found: list[dict[str, Any]] = []
    for room, (module, name) in ROOMS.items():
        # A service has what all have, and is told by the mesh what both name.
        listed = {row["variable"] for row in found if row["room"] in ("mesh", "services")}
        found += [row for row in rows(room, module, name) if row["variable"] not in listed]
    found += gateway_rows({row["variable"] for row in found if row["room"] == "mesh"})
    if json:
        print(jsonlib.dumps(found, indent=2))
        return
    table = Table(box=None, header_style="bold")
    for name in ("room", "variable", "default", "here", "what"):
        table.add_column(name, overflow="fold")
    for row in found:
        table.add_row(row["room"], row["variable"], row["default"], row["here"] or "", row["what"])
    Console().print(table)


def rows(room: str, module: str, name: str) -> list[dict[str, Any]]:
    """One row for each field a person may set; what the supervisor assigns (ports, tokens) is left out."""
    model: type[BaseSettings] = getattr(importlib.import_module(module), name)
    prefix = model.model_config.get("env_prefix", "")
    listed = []
    for field, info in model.model_fields.items():
        if field in ASSIGNED:
            continue
        variable = f"{prefix}{field}".upper()
        default = "" if info.is_required() else str(info.get_default(call_default_factory=False))
        listed.append(
            {
                "room": room,
                "variable": variable,
                "default": default,
                "here": os.environ.get(variable),
                "what": info.description,
            }
        )
    return listed


def gateway_rows(listed: set[str]) -> list[dict[str, Any]]:
    """What the gateway's own list says, without what the mesh sets (`listed`) or assigns; empty, with a word on stderr,
    while it is not built."""
    try:
        said = subprocess.run(
            [tools.built(tools.GATEWAY), "-settings"], capture_output=True, timeout=10, check=True
        ).stdout
    except (tools.ToolMissing, OSError, subprocess.SubprocessError) as e:
        print(f"foremesh: the gateway's settings are left out: {e}", file=sys.stderr)
        return []
    assigned = {f"FOREMESH_{name}".upper() for name in ASSIGNED} | {"DAPR_HTTP_PORT"} | listed
    return [
        {"room": "gateway", **row, "here": os.environ.get(row["variable"])}
        for row in jsonlib.loads(said)
        if row["variable"] not in assigned
    ]
