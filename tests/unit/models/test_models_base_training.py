"""The base tier's pipeline in miniature: two sets at once, interrupted and resumed, down to entries that serve."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from tokenizers import Tokenizer

pytest.importorskip("jax", reason="training needs the lock `train`", exc_type=ImportError)
pytest.importorskip("onnx_ir", reason="training needs the lock `train`")

import jax

from models import entries, evaluate
from models.corpus import Task
from models.intents.utterances import Utterance
from models.intents.vocabulary import train_vocabulary
from models.minilm import entry, fit, network
from models.minilm.recipe import Recipe
from tests.unit.models.encoders import random_encoder

REPO = Path(__file__).resolve().parents[3]
FEATURES, HEADS, UNITS, LONGEST = 32, 4, 64, 32
RECIPE = Recipe(epochs=8, batch=16, longest=LONGEST, rate=3e-3, head_rate=1e-2, dropout=0.0, averaging=0.8)
SAYINGS = {
    "home": {"light_on": "turn on the lamp", "music": "play some jazz", "weather": "will it rain"},
    "bank": {"balance": "how much money do i have", "transfer": "send cash to bob"},
}


def task(name: str) -> Task:
    """Sentences of a few intents, each told from the others by its words."""
    random = np.random.default_rng(3)
    fillers = ["please", "now", "today", "kindly", "quickly", "again", "then", "well"]

    def some(count: int) -> list[Utterance]:
        return [
            Utterance(f"{saying} {' '.join(random.choice(fillers, 2))}", intent)
            for _ in range(count)
            for intent, saying in SAYINGS[name].items()
        ]

    outside = {"test": [Utterance(" ".join(random.choice(fillers, 3)), "oos") for _ in range(10)]}
    return Task(name, some(24), some(6), some(6), outside if name == "home" else {})


def encoder(vocabulary: int) -> network.Encoder:
    return random_encoder(
        vocabulary=vocabulary, longest=LONGEST, features=FEATURES, heads=HEADS, size=FEATURES // HEADS, units=UNITS,
        layers=1, spread=0.2,
    )  # fmt: skip


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    return [task("home"), task("bank")]


@pytest.fixture(scope="module")
def tokenizer(tasks: list[Task]) -> Tokenizer:
    return train_vocabulary((item.text for one in tasks for item in one.train), 200)


@pytest.fixture(scope="module")
def trained(
    tasks: list[Task], tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[fit.Trained, Path]:
    """What came of one uninterrupted training, and the folder of its epochs."""
    cache = tmp_path_factory.mktemp("cache")
    start = encoder(tokenizer.get_vocab_size())
    return fit.fit(tasks, start, tokenizer, RECIPE, cache, lambda progress: None), cache


def test_it_learns_both_sets(trained: tuple[fit.Trained, Path]) -> None:
    valid = trained[0].valid
    assert min(valid.values()) > 0.9 and set(valid) == {"home", "bank"}


class Interrupted(Exception):
    pass


def test_an_interrupted_training_goes_on_and_ends_the_same(
    tasks: list[Task],
    tokenizer: Tokenizer,
    trained: tuple[fit.Trained, Path],
    tmp_path: Path,
) -> None:
    start = encoder(tokenizer.get_vocab_size())

    def interrupt(progress: fit.Progress) -> None:
        if progress.epoch == 2 and not progress.valid:
            raise Interrupted

    with pytest.raises(Interrupted):
        fit.fit(tasks, start, tokenizer, RECIPE, tmp_path, interrupt)
    epochs: set[int] = set()
    made = fit.fit(tasks, start, tokenizer, RECIPE, tmp_path, lambda now: epochs.add(now.epoch))
    assert epochs == set(range(2, RECIPE.epochs + 1)), "the first was kept"
    assert made.valid == trained[0].valid
    for one, other in zip(jax.tree.leaves(made.network), jax.tree.leaves(trained[0].network), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_finished_training_is_not_done_again(
    tasks: list[Task], tokenizer: Tokenizer, trained: tuple[fit.Trained, Path]
) -> None:
    start = encoder(tokenizer.get_vocab_size())
    steps: list[fit.Progress] = []
    made = fit.fit(tasks, start, tokenizer, RECIPE, trained[1], steps.append)
    assert steps == [] and made.valid == trained[0].valid
    assert made.seconds == pytest.approx(trained[0].seconds, abs=60)
    pairs = zip(jax.tree.leaves(made.network), jax.tree.leaves(trained[0].network), strict=True)
    assert all((one == other).all() for one, other in pairs)


def test_entries_come_out_that_serve(
    tasks: list[Task],
    tokenizer: Tokenizer,
    trained: tuple[fit.Trained, Path],
    tmp_path: Path,
) -> None:
    catalog = tmp_path / "catalog"
    about = {
        "source": "nothing",
        "licence": "none",
        "data": {
            "name": "made up",
            "source": "this file",
            "licence": "none",
            "train": 1,
            "valid": 1,
            "test": 1,
        },
    }
    cards = entry.build_entries(
        tasks, tasks[0].test, trained[0].network, tokenizer, RECIPE, catalog / "intent",
        {"base": "int8", "base-4bit": "int4"}, version="1", about=about, seconds=1.0,
    )  # fmt: skip
    schema = json.loads((REPO / "services/contracts/card.schema.json").read_text())
    assert [e.tier for e in entries.entries(catalog)] == ["base", "base-4bit"]
    for tier, card in cards.items():
        jsonschema.validate(card, schema)
        found = entries.find(catalog, "intent", tier)
        assert found.card == json.loads(json.dumps(card))
        assert evaluate.evaluate(found, tasks[0].test).accuracy == card["accuracy"]["test"]
        assert card["heads"]["bank"]["output"] == "logits.bank" and card["heads"]["bank"]["test"] > 0.9
        assert set(card["heads"]["home"]["out_of_scope"]) == {"energy", "certainty", "largest"}
        assert (found.folder / "README.md").read_text().startswith(f"# intent/{tier}, version 1")
    assert (cards["base"]["max_batch"], cards["base-4bit"]["max_batch"]) == (1, 8)
    # Again, over what is there: the old entry is replaced as a whole, and nothing is left beside it.
    entry.place(catalog / "intent/base-4bit", catalog / "intent/base")
    assert sorted(p.name for p in (catalog / "intent").iterdir()) == ["base", "base-4bit"]
