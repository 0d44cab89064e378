"""What `make models` promises and how it tells of several seeds."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx", reason="cards are written by what training needs")

from models import make_catalog
from models.build import write_card
from models.report.targets import KNOWN
from models.train import CATALOG

CARD = json.loads((CATALOG / "intent/mini/card.json").read_text())


REACHED = {4: 0.91, 5: 0.93, 6: 0.92}


def make_one(seed: int, model: Path) -> dict[str, Any]:
    """An entry as a training with this seed would leave it."""
    shutil.copytree(CATALOG / "intent/mini", model / "mini")
    heads = {"hwu64": CARD["heads"]["hwu64"] | {"test": REACHED[seed]}}
    told = {"seed": seed, "seconds": 10 * seed}
    without = {what: value for what, value in CARD.items() if what != "seeds"}
    card = without | {"model": model.name, "heads": heads, "training": CARD["training"] | told}
    write_card(model / "mini", card)
    return {"mini": card}


def card_of(model: Path) -> Any:
    return json.loads((model / "mini/card.json").read_text())


def test_an_entry_stays_and_its_card_tells_of_the_seeds_that_are_tried_later(tmp_path: Path) -> None:
    model = tmp_path / "intent"
    make_catalog.with_seeds(4, [], model / "mini", make_one)
    assert "seeds" not in card_of(model), "one seed has no range"
    make_catalog.with_seeds(4, [6], model / "mini", make_one)
    make_catalog.with_seeds(4, [5], model / "mini", make_one)
    make_catalog.with_seeds(4, [5], model / "mini", make_one)
    card = card_of(model)
    assert card["training"]["seed"] == 4
    assert card["heads"]["hwu64"]["test"] == REACHED[4]
    told = card["seeds"]["hwu64"]
    assert told["mean"] == round(statistics.mean(REACHED.values()), 4)
    assert (told["min"], told["max"], told["seeds"]) == (0.91, 0.93, [4, 5, 6])
    assert "91.00% to 93.00%" in (model / "mini/README.md").read_text()


def test_a_seed_of_another_recipe_is_not_told_of(tmp_path: Path) -> None:
    model = tmp_path / "intent"
    make_catalog.with_seeds(4, [], model / "mini", make_one)
    before = (model / "mini/card.json").read_bytes()

    def otherwise(seed: int, out: Path) -> dict[str, Any]:
        cards = make_one(seed, out)
        return {tier: card | {"training": card["training"] | {"batch": 7}} for tier, card in cards.items()}

    with pytest.raises(ValueError, match=r"another recipe \(batch differ\)"):
        make_catalog.with_seeds(4, [5], model / "mini", otherwise)
    assert (model / "mini/card.json").read_bytes() == before


def test_a_seed_of_an_entry_that_is_not_there_is_refused(tmp_path: Path) -> None:
    def never(seed: int, out: Path) -> dict[str, Any]:
        raise AssertionError("it is known before the training")

    with pytest.raises(ValueError, match="not in the catalog"):
        make_catalog.with_seeds(4, [5], tmp_path / "intent/mini", never)


def test_a_step_without_further_seeds_is_refused_with_also() -> None:
    command = [sys.executable, "-m", "models.make_catalog", "--data", "d", "--step", "base", "--also", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "leave --step base out" in done.stderr


def test_what_is_promised_is_what_a_report_can_hold_against_a_card() -> None:
    for tier in make_catalog.COSTS:
        promised = make_catalog.targets(tier, make_catalog.SOURCES)
        assert set(promised) <= set(KNOWN)
        assert set(promised["accuracy"]) == set(make_catalog.SOURCES)
    assert "out_of_scope_recall" not in make_catalog.targets("tiny", ["hwu64"])
