"""The command as somebody types it, on a state directory and ports of its own."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.local.ports import is_free
from deploy.local.settings import REPO

Done = subprocess.CompletedProcess[str]


@pytest.fixture
def port_base() -> int:
    """A port base on which nothing is up."""
    while True:
        base = random.randrange(20_000, 60_000, 200)
        if all(is_free(base + n) for n in range(3)):
            return base


@pytest.fixture
def foremesh(tmp_path: Path, port_base: int) -> Callable[..., Done]:
    """Runs the command in a process; `FOREMESH_*` of the caller's environment do not reach it."""

    def run(*words: str, within_s: float = 60, **environment: str) -> Done:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("FOREMESH_")}
        own = {
            "FOREMESH_STATE_DIR": str(tmp_path / "state"),
            "FOREMESH_PORT_BASE": str(port_base),
            # Messages are compared as text: nothing may be wrapped or coloured.
            "COLUMNS": "200",
            "NO_COLOR": "1",
            "TERM": "dumb",
        }
        return subprocess.run(
            [sys.executable, "-m", "foremesh.cli", *words],
            cwd=REPO, capture_output=True, text=True, timeout=within_s, check=False, env=kept | own | environment,
        )  # fmt: skip

    return run
