"""Dapr's table of live sidecars, cleaned up when one of them dies."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path

import pytest

from deploy.local import resolver

# The table as Dapr's SQLite name resolution makes it.
TABLE = """CREATE TABLE hosts (
    registration_id TEXT NOT NULL PRIMARY KEY, address TEXT NOT NULL, app_id TEXT NOT NULL,
    namespace TEXT NOT NULL, last_update INTEGER NOT NULL)"""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "resolver.db"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(TABLE)
        for number, port in enumerate((9001, 9002, 90010)):
            row = (f"id-{number}", f"127.0.0.1:{port}", "inference", "default", 1_700_000_000)
            db.execute("INSERT INTO hosts VALUES (?, ?, ?, ?, ?)", row)
    db.close()
    return path


def rows(path: Path) -> dict[str, int]:
    with sqlite3.connect(path) as db:
        found = dict(db.execute("SELECT address, last_update FROM hosts").fetchall())
    db.close()
    return found


def test_forget_takes_out_one_sidecar(database: Path) -> None:
    resolver.forget(database, 9001)
    assert set(rows(database)) == {"127.0.0.1:9002", "127.0.0.1:90010"}


def test_pass_over_leaves_the_row_to_its_owner(database: Path) -> None:
    resolver.pass_over(database, 9001)
    assert rows(database) == {
        "127.0.0.1:9001": 0,
        "127.0.0.1:9002": 1_700_000_000,
        "127.0.0.1:90010": 1_700_000_000,
    }


def test_what_is_not_there_is_no_error(database: Path, tmp_path: Path) -> None:
    resolver.forget(database, 1)
    resolver.pass_over(database, 1)
    assert len(rows(database)) == 3
    resolver.forget(tmp_path / "none.db", 9001)
    assert not (tmp_path / "none.db").exists(), "Dapr is the one to make it"
    (tmp_path / "empty.db").touch()
    resolver.forget(tmp_path / "empty.db", 9001)


def test_a_writer_in_the_middle_is_waited_for(database: Path) -> None:
    """Sidecars write their heartbeats into the same file."""
    other = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.3, other.execute, ("COMMIT",))
    release.start()
    began = time.monotonic()
    resolver.forget(database, 9001)
    assert time.monotonic() - began >= 0.2
    release.join()
    other.close()
    assert "127.0.0.1:9001" not in rows(database)
