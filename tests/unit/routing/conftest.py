"""A catalog for the tests of routing, which reads only its cards."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.common.catalog import write_entry


@pytest.fixture(scope="session")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog with one entry, intent.tiny."""
    path = tmp_path_factory.mktemp("catalog")
    write_entry(path)
    return path
