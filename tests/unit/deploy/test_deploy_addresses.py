"""The address book: replaced as a whole, private, one list an app."""

from __future__ import annotations

import json
import stat
from pathlib import Path

from deploy.local import addresses


def test_the_book_lists_every_replica_of_an_app(tmp_path: Path) -> None:
    file = tmp_path / "addresses.json"
    addresses.publish(file, [("inference", 9001), ("routing", 9002), ("inference", 9003)])
    assert json.loads(file.read_text()) == {
        "inference": ["127.0.0.1:9001", "127.0.0.1:9003"],
        "routing": ["127.0.0.1:9002"],
    }
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_new_book_is_another_file(tmp_path: Path) -> None:
    file = tmp_path / "addresses.json"
    addresses.publish(file, [("routing", 1)])
    with file.open() as reader:
        addresses.publish(file, [])
        # Whoever is reading the old one reads it to its end.
        assert json.loads(reader.read()) == {"routing": ["127.0.0.1:1"]}
    assert json.loads(file.read_text()) == {}
