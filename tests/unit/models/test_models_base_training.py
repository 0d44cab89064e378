"""The whole pipeline in miniature: an encoder of the catalog, a mini cut from it, a tiny taught by it; all of them
served as every entry is."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

pytest.importorskip("jax", reason="training needs the lock `train`", exc_type=ImportError)
pytest.importorskip("onnx_ir", reason="training needs the lock `train`")

from models import build, entries, evaluate, heads, teacher, tiers
from models.corpus import Task
from models.intents import measure
from models.methods.quantise import int8
from models.minilm import start, student
from models.minilm.export import export
from models.minilm.network import Linear
from models.minilm.recipe import Recipe
from models.minilm.restore import restore
from tests.unit.models.sets import task, write
from tests.unit.models.small_base import ABOUT, FAST, FEATURES, LONGEST, encoder, make_base

REPO = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    return [task("home"), task("bank")]


@pytest.fixture(scope="module")
def base(tasks: list[Task], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The entry intent/base of a catalog of its own."""
    return make_base(tasks, tmp_path_factory.mktemp("catalog"))


@pytest.fixture(scope="module")
def cards(base: Path, tasks: list[Task]) -> Mapping[str, Mapping[str, Any]]:
    """mini and tiny, made of base, beside it."""
    with pytest.MonkeyPatch.context() as patch:
        small = Recipe(**{**vars(FAST), "layers": (1,), "heads": 2, "units": 32, "variants": 1})
        patch.setattr(tiers, "MINI", small)
        tiny = dataclasses.replace(
            tiers.TINY, epochs=4, batch=32, rate=1e-2, averaging=0.9, features=16, hidden=16, vocabulary=200
        )
        patch.setattr(tiers, "TINY", tiny)
        plan = tiers.Plan(
            tasks, tasks[0].test, start.of_entry(base), entries.read_entry(base), base.parents[1] / "cache", 1, 0, "1",
            ABOUT,
        )  # fmt: skip
        said: list[tiers.Now] = []
        made = tiers.make(plan, ["tiny", "mini"], base.parent, said.append)
    assert [tier for tier in dict.fromkeys(now.tier for now in said)] == ["mini", "tiny"], (
        "the larger one first"
    )
    return made


def test_entries_come_out_that_serve(base: Path, tasks: list[Task], cards: Mapping[str, Any]) -> None:
    schema = json.loads((REPO / "services/contracts/card.schema.json").read_text())
    there = entries.entries(base.parents[1])
    assert [entry.tier for entry in there] == ["base", "base-4bit", "mini", "tiny"]
    for entry in there:
        card = entry.card
        jsonschema.validate(card, schema)
        assert evaluate.evaluate(entry, tasks[0].test).accuracy == card["accuracy"]["test"]
        assert card["heads"]["bank"]["output"] == "logits.bank"
        assert min(head["test"] for head in card["heads"].values()) > 0.9, entry.tier
        assert set(card["heads"]["home"]["out_of_scope"]) == {"energy", "certainty", "largest"}
        assert (entry.folder / "README.md").read_text().startswith(f"# intent/{entry.tier}, version 1")
    by_tier = {entry.tier: entry.card for entry in there}
    assert [by_tier[tier]["max_batch"] for tier in ("base", "base-4bit", "mini", "tiny")] == [1, 8, 1, 1]


def test_a_mini_is_smaller_in_every_way(base: Path, cards: Mapping[str, Any]) -> None:
    large, small = entries.read_entry(base).card["structure"], cards["mini"]["structure"]
    assert (small["layers"], small["heads"], small["units"]) == (1, [2], [32])
    assert small["parameters"] < large["parameters"]
    cut, _, tokenizer = restore(base.parent / "mini")
    assert [layer.up.weight.shape for layer in cut.layers] == [(FEATURES, 32)]
    assert cards["mini"]["variant"] == "int8-table-int4"
    whole, _, larger = restore(base)
    old, new = larger.get_vocab(), tokenizer.get_vocab()
    table = np.asarray(whole.tokens)[[old[piece] for piece in sorted(new)]]
    rows = np.asarray(cut.tokens)[[new[piece] for piece in sorted(new)]]
    assert 0 < np.abs(rows - table).max() < 0.2 * np.abs(table).max(), "the table in 4 bits, read back"


def test_what_neighbours_would_have_a_say_in_is_served_alone(cards: Mapping[str, Any]) -> None:
    variants = cards["tiny"]["variants"]
    assert (cards["tiny"]["variant"], cards["tiny"]["max_batch"]) == ("int8-dynamic", 1)
    assert variants["int8-dynamic"]["batch_moves_logits"] > 1e-4, (
        "else there would be no reason to serve it alone"
    )
    assert variants["weights-int8"]["batch_flips_labels"] == 0
    assert variants["weights-int8"]["batch_moves_logits"] < 1e-4
    assert variants["weights-int8"]["size_mb"] < 0.6 * variants["fp32"]["size_mb"]


def test_every_further_head_is_a_model_of_its_own_over_the_same_files(base: Path, tasks: list[Task]) -> None:
    made = heads.write_heads(base, {"bank": "money"}, {"bank": {"source": "nobody", "licence": "none"}})
    try:
        assert made == [base.parents[1] / "money/base"]
        assert sorted(path.name for path in made[0].iterdir()) == ["README.md", "card.json"]
        entry = entries.read_entry(made[0])
        schema = json.loads((REPO / "services/contracts/card.schema.json").read_text())
        jsonschema.validate(entry.card, schema)
        assert entry.card["labels"] == tasks[1].labels
        assert evaluate.evaluate(entry, tasks[1].test).accuracy == entry.card["accuracy"]["test"]
        assert "[intent/base](../../intent/base/README.md)" in (made[0] / "README.md").read_text()
    finally:
        shutil.rmtree(base.parents[1] / "money")
    with pytest.raises(KeyError, match="bank"):
        heads.write_heads(base, {}, {})


def test_an_encoder_comes_back_from_its_entry(base: Path, tasks: list[Task], tmp_path: Path) -> None:
    begin = start.of_entry(base)
    made = student.as_it_is(begin, tasks, FAST)
    heads = {"logits": slice(0, 3), "logits.bank": slice(3, 5)}
    again = int8(made.export(heads, tmp_path / "fp32.onnx"), tmp_path / "again.onnx")
    rows = measure.encode(begin.tokenizer, [item.text for item in tasks[0].test], LONGEST)
    first, second = (
        np.stack([measure.run(measure.open_session(path), [row])[0] for row in rows])
        for path in (base / "model.onnx", again)
    )
    np.testing.assert_allclose(first, second, atol=0.15)
    assert (first.argmax(axis=1) == second.argmax(axis=1)).all()


def test_a_base_that_is_there_keeps_its_file_and_history_when_it_is_measured_again(
    base: Path, tasks: list[Task], tmp_path: Path
) -> None:
    old = entries.read_entry(base).card
    about = {**ABOUT, "source": "Started from intent/base"}
    plan = tiers.Plan(tasks, tasks[0].test, start.of_entry(base), None, tmp_path / "cache", 1, 0, "9", about)
    made = tiers.make(plan, ["base", "base-4bit"], tmp_path / "intent", lambda now: None)
    assert (tmp_path / "intent/base/model.onnx").read_bytes() == (base / "model.onnx").read_bytes()
    for card in made.values():
        assert card["version"] == "9" and card["training"] == old["training"]
        assert card["source"] == old["source"] != about["source"]
        for name, head in card["heads"].items():
            assert head["test_fp32"] == old["heads"][name]["test_fp32"], (
                "the floats of then, not those of INT8"
            )
    assert made["base"]["accuracy"]["test"] == old["accuracy"]["test"]
    with pytest.raises(ValueError, match="classes apart"):
        tiers.make(
            dataclasses.replace(plan, tasks=tasks[:1]), ["base-4bit"], tmp_path / "other", lambda now: None
        )


def test_what_is_no_encoder_is_refused(base: Path, cards: Mapping[str, Any]) -> None:
    with pytest.raises(ValueError, match="no encoder that models"):
        restore(base.parent / "tiny")


def test_layers_that_are_stored_once_are_not_read_as_fewer(tmp_path: Path) -> None:
    one = encoder(20)
    shared = one._replace(layers=(one.layers[0], one.layers[0]))
    head = Linear(np.zeros((FEATURES, 3), np.float32), np.zeros(3, np.float32))
    export(shared, {"logits": head}, tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="no encoder that models"):
        restore(tmp_path)


def test_a_teacher_is_heard_on_sentences_that_nobody_labelled(
    base: Path, tasks: list[Task], tmp_path: Path
) -> None:
    plan = tiers.Plan(tasks, [], start.of_entry(base), entries.read_entry(base), tmp_path, 1, 0, "1", ABOUT)
    more = ["what is the balance of the lamp", "please move the kitchen"]
    told = tiers.heard(plan, "tiny", 2, lambda now: None, more)
    assert told is not None and told.soft.shape[:2] == (sum(len(one.train) for one in tasks), 5)
    assert {text for row in told.rebuilt for text in row[2:]} == set(more)
    without = tiers.heard(plan, "tiny", 2, lambda now: None)
    assert without is not None and without.soft.shape[1] == 2 and without.digest != told.digest


def test_a_teacher_is_heard_once_and_only_on_what_it_knows(
    base: Path, tasks: list[Task], tmp_path: Path
) -> None:
    entry = entries.read_entry(base)
    assert teacher.knows(entry, tasks) == ["logits", "logits.bank"]
    assert teacher.knows(entry, [Task("home", tasks[1].train[:1], [], [], {})]) is None
    with pytest.raises(entries.EntryError, match=r"no output 'logits\.moon'; it has logits"):
        teacher.Teacher(entry, ["logits.moon"], tmp_path)
    asked = teacher.Teacher(entry, ["logits.bank", "logits"], tmp_path)
    texts = [item.text for item in tasks[1].test]
    first = asked.logits(texts)
    assert first.shape == (len(texts), 5)
    assert len(list(tmp_path.glob("*.npy"))) == 1
    np.testing.assert_array_equal(asked.logits(texts), first)
    asked.logits(texts[:1])
    assert len(list(tmp_path.glob("*.npy"))) == 2


def test_a_tampered_teacher_is_refused(base: Path, tmp_path: Path) -> None:
    build.place(base, tmp_path / "intent/base")
    model = tmp_path / "intent/base/model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"x")
    with pytest.raises(entries.EntryError, match="is not the file its card describes"):
        teacher.Teacher(entries.read_entry(tmp_path / "intent/base"), ["logits"], tmp_path)


def test_an_entry_is_replaced_as_a_whole(base: Path, tmp_path: Path) -> None:
    build.place(base, tmp_path / "intent/base")
    build.place(base.parent / "base-4bit", tmp_path / "intent/base")
    assert sorted(path.name for path in (tmp_path / "intent").iterdir()) == ["base"]
    assert entries.read_entry(tmp_path / "intent/base").card["tier"] == "base-4bit"


def test_the_command_trains_on_sentences_of_ones_own(base: Path, tmp_path: Path, run_training: Any) -> None:
    """No teacher knows these sets under this name: labels alone, from a vocabulary that a larger model lends."""
    done = run_training(
        write(task("bank"), tmp_path / "own"), tmp_path / "catalog/own", "--tier", "tiny", "--epochs", "2",
        "--base", str(base.parent / "base-4bit"), "--cache", str(tmp_path / "cache"), "--data-licence", "mine",
    )  # fmt: skip
    assert done.returncode == 2, "4 bits cannot be read back"
    assert "name another entry" in done.stderr and not (tmp_path / "catalog").exists()
    done = run_training(
        tmp_path / "own", tmp_path / "catalog/own", "--tier", "tiny", "--epochs", "2", "--base", str(base),
        "--cache", str(tmp_path / "cache"), "--data-licence", "mine",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    card = entries.find(tmp_path / "catalog", "own", "tiny").card
    assert card["licence"].endswith("data mine") and card["labels"] == ["balance", "transfer"]
    assert "own" in done.stdout and "Traceback" not in done.stderr
