"""The messages between services: one JSON Schema (2020-12) each, read by every language.

`schema("traffic")` is the schema of the event on topic `traffic`. The services do not validate at run time,
what they read they decode strictly; tests of producers and consumers validate against these files.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
SUFFIX = ".schema.json"


def names() -> list[str]:
    """Return the names of all contracts, sorted."""
    return sorted(path.name.removesuffix(SUFFIX) for path in FOLDER.glob(f"*{SUFFIX}"))


@cache
def schema(name: str) -> dict[str, Any]:
    """Return the schema `name`; raises `KeyError`, naming those there are, for one that is not there."""
    path = FOLDER / f"{name}{SUFFIX}"
    if not path.is_file():
        raise KeyError(f"there is no contract {name!r} ({', '.join(names())})")
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded
