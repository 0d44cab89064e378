"""The address book that the sidecars read (`edge/sidecar/addressbook`): who may be called, and where, right now."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from deploy.local.trust import write_secret


def publish(file: Path, entries: Iterable[tuple[str, int]]) -> None:
    """Replace the book by these (app-id, internal port) pairs; readers see the old one or the new one, never half."""
    book: dict[str, list[str]] = {}
    for app_id, port in entries:
        book.setdefault(app_id, []).append(f"127.0.0.1:{port}")
    write_secret(file, json.dumps(book))
