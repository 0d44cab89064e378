"""Takes a dead sidecar out of Dapr's SQLite name resolution at once, instead of waiting for its heartbeat to end."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path


def forget(database: Path, internal_port: int) -> None:
    """Delete the row of the sidecar that listens on this port; nothing happens if there is none."""
    if not database.exists():
        return
    with (
        contextlib.suppress(sqlite3.OperationalError),
        contextlib.closing(sqlite3.connect(database, timeout=2.0)) as db,
    ):
        db.execute("DELETE FROM hosts WHERE address = ?", (f"127.0.0.1:{internal_port}",))
        db.commit()
