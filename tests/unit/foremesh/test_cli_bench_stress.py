"""`foremesh bench overload` and `foremesh bench memory`: short runs of the real thing, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


def test_more_than_it_takes_is_refused_and_the_rest_answered(foremesh: Any, tmp_path: Path) -> None:
    out = tmp_path / "overload.json"
    done = foremesh("bench", "overload", "--seconds", "2", "--json", str(out))
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert found["offered_rps"] > 2 * found["capacity_rps"] > 0
    assert found["goodput_of_capacity"] > 0.3 and found["shed"] > 0.3
    assert found["failed"] < 0.05 and found["memory_mb"][0] > 40
    assert found["machine"]["cores"] >= 1
    assert "goodput, of capacity" in done.stdout and ">= 0.9" in done.stdout
    assert "capacity:" in done.stderr and "capacity:" not in done.stdout


def test_mixed_load_is_answered_as_it_should_and_memory_told(foremesh: Any, tmp_path: Path) -> None:
    out = tmp_path / "memory.json"
    done = foremesh("bench", "memory", "--seconds", "4", "--pause-ms", "1", "--json", str(out))
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert found["wrong"] == 0 and sum(found["requests"].values()) > 20
    assert "memory grows by" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("overload", "--tier", "huge"),
        ("overload", "--factor", "1"),
        ("memory", "--seconds", "0"),
        ("memory", "--json", "/no/such/folder/out.json"),
        ("overload", "--json", "/no/such/folder/out.json"),
    ],
)
def test_wrong_usage_is_told(foremesh: Any, words: tuple[str, ...]) -> None:
    done = foremesh("bench", *words)
    assert done.returncode == 2
    assert "Invalid value" in done.stderr
