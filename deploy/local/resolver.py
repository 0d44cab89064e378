"""Takes a dead sidecar out of Dapr's SQLite name resolution at once, instead of waiting for its heartbeat to end."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path


def forget(database: Path, internal_port: int) -> None:
    """Delete the row of the dead sidecar that listened on this port; nothing happens if there is none."""
    _execute(database, "DELETE FROM hosts WHERE address = ?", internal_port)


def pass_over(database: Path, internal_port: int) -> None:
    """Let no new call pick this sidecar. Its row stays: on its way out it takes it away itself, or fails."""
    _execute(database, "UPDATE hosts SET last_update = 0 WHERE address = ?", internal_port)


def _execute(database: Path, statement: str, internal_port: int) -> None:
    if not database.exists():
        return
    with (
        contextlib.suppress(sqlite3.OperationalError),
        contextlib.closing(sqlite3.connect(database, timeout=2.0)) as db,
    ):
        db.execute(statement, (f"127.0.0.1:{internal_port}",))
        db.commit()
