"""The catalog's entries, data that is there only on some machines, and training as people run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPO = Path(__file__).resolve().parents[3]
TINY = REPO / "models/catalog/intent/tiny"
SETS = REPO.parent / "shared/data/intents"


@pytest.fixture
def tiny() -> Path:
    """The folder of the entry intent/tiny."""
    if not (TINY / "card.json").exists():
        pytest.fail(f"{TINY} holds no entry; see models/README.md for how to train it")
    return TINY


@pytest.fixture
def card(tiny: Path) -> dict[str, Any]:
    return dict(json.loads((tiny / "card.json").read_text()))


@pytest.fixture
def shared_sets() -> Path:
    """The folder of the public sets, whose test parts nobody looked at while a model was trained."""
    if not SETS.exists():
        pytest.skip(f"NOT CHECKED: the cards' accuracy, because {SETS} is not there")
    return SETS


@pytest.fixture
def needs_training() -> None:
    """Skips, and says how to change that, where the packages for training are not installed."""
    for package in ("jax", "optax", "onnx"):
        pytest.importorskip(
            package,
            reason=f"NOT CHECKED: training, because {package} is not installed; "
            "`python3 deploy/local/setup.py --train` brings it",
        )


def train(data: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, on one thread."""
    return subprocess.run(
        [sys.executable, "-m", "models.train", "--data", str(data), "--out", str(out), *more],
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false", "OMP_NUM_THREADS": "1"},
    )


@pytest.fixture
def run_training() -> Any:
    return train
