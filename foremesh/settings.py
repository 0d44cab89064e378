"""`foremesh settings`: everything that can be set, where, and what it is now."""

from __future__ import annotations

import importlib
import json as jsonlib
import os
from typing import Any

from pydantic_settings import BaseSettings
from rich.console import Console
from rich.table import Table

from foremesh.options import Json

ROOMS = {
    "mesh": ("deploy.local.settings", "MeshSettings"),
    "routing": ("services.routing.settings", "Settings"),
    "tokenization": ("services.tokenization.settings", "Settings"),
    "inference": ("services.inference.settings", "Settings"),
    "predictor": ("services.predictor.settings", "Settings"),
    "autoscaler": ("services.autoscaler.settings", "Settings"),
    "dashboard": ("services.dashboard.settings", "Settings"),
}


def settings(json: Json = False) -> None:
    """List every setting: the environment variable, what it does, its default, and its value here if it is set.

    `mesh` settings are also flags of `foremesh up`. Settings of services are read from the environment of
    `foremesh up`: FOREMESH_QUEUE_ITEMS=64 foremesh up. Secrets are never settings and never shown.
    """
    found = [row for room, where in ROOMS.items() for row in rows(room, *where)]
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
    base = (
        {f for parent in model.__mro__[1:] for f in getattr(parent, "model_fields", {})}
        if room != "mesh"
        else set()
    )
    listed = []
    for field, info in model.model_fields.items():
        if field in base or not info.description:
            continue
        alias = info.validation_alias if isinstance(info.validation_alias, str) else None
        variable = alias or f"{prefix}{field}".upper()
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
