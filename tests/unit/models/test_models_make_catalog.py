"""What `make models` promises and how it tells of several seeds."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx", reason="cards are written by what training needs")

from models import make_catalog
from models.report.targets import KNOWN
from models.train import CATALOG

CARD = json.loads((CATALOG / "intent/mini/card.json").read_text())


def test_the_first_seeds_entry_is_kept_and_its_card_tells_of_all(tmp_path: Path) -> None:
    reached = {4: 0.91, 5: 0.93, 6: 0.92}
    made: list[tuple[int, Path]] = []

    def make_one(seed: int, model: Path) -> dict[str, Any]:
        made.append((seed, model))
        (model / "mini").mkdir(parents=True)
        heads = {"hwu64": CARD["heads"]["hwu64"] | {"test": reached[seed]}}
        return {"mini": CARD | {"heads": heads}}

    make_catalog.with_seeds(list(reached), tmp_path / "intent", make_one)
    assert [seed for seed, _ in made] == list(reached)
    assert [model for _, model in made if model == tmp_path / "intent"] == [tmp_path / "intent"]
    card = json.loads((tmp_path / "intent/mini/card.json").read_text())
    assert card["heads"]["hwu64"]["test"] == reached[4]
    assert card["seeds"] == {
        "hwu64": {
            "mean": round(statistics.mean(reached.values()), 4), "min": 0.91, "max": 0.93, "seeds": [4, 5, 6],
        }
    }  # fmt: skip
    assert "91.00% to 93.00%" in (tmp_path / "intent/mini/README.md").read_text()


def test_what_is_promised_is_what_a_report_can_hold_against_a_card() -> None:
    for tier in make_catalog.COSTS:
        promised = make_catalog.targets(tier, make_catalog.SOURCES)
        assert set(promised) <= set(KNOWN)
        assert set(promised["accuracy"]) == set(make_catalog.SOURCES)
    assert "out_of_scope_recall" not in make_catalog.targets("tiny", ["hwu64"])
