"""What several tests of the lab share."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED_TRACES = Path(__file__).resolve().parents[4] / "shared" / "data" / "traces"


@pytest.fixture
def shared_traces() -> Path:
    """The folder of real traces; the test is skipped where there is none."""
    if not SHARED_TRACES.is_dir():
        pytest.skip(f"no real traces: {SHARED_TRACES} is not there")
    return SHARED_TRACES
