"""Children that an earlier run of a mesh left behind, found again by pid and start time."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
from collections.abc import Iterable
from pathlib import Path

from deploy.local.trust import write_secret

log = logging.getLogger("foremesh.supervisor")


def remember(run_dir: Path, pids: Iterable[int]) -> None:
    """Note the children of this run for a next start after a crash."""
    write_secret(run_dir / "children.json", json.dumps({p: start_time(p) for p in pids}))


def start_time(pid: int) -> str:
    """The kernel's start time of a process: with the pid it names one process for good. Empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return ""


def end_strays(run_dir: Path) -> None:
    """End what an earlier run of this mesh left behind (a kernel without parent-death signals, say)."""
    try:
        known: dict[str, str] = json.loads((run_dir / "children.json").read_text())
    except (OSError, ValueError):
        return
    for pid, started in known.items():
        if started and start_time(int(pid)) == started:
            log.warning("ending process %s, left by an earlier run", pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
