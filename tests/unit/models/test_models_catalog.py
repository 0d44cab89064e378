"""The entry in the catalog is what its card says it is, and answers each request as if it were alone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnxruntime as ort
import pytest
from tokenizers import Tokenizer

from models.entries import read_entry, resolve
from models.intents import measure
from models.intents.utterances import read_utterances

REPO = Path(__file__).resolve().parents[3]
OWN = REPO / "models/data/utterances.tsv"
ENTRIES = sorted((REPO / "models/catalog").glob("*/*/card.json"))
FILES = ("model.onnx", "tokenizer.json")


def file_of(folder: Path, name: str) -> Path:
    """With the entry, or with the one whose weights it uses."""
    artefact = resolve(read_entry(folder))
    return artefact.model if name == "model.onnx" else artefact.tokenizer


def ids_of(folder: Path, texts: list[str], card: dict[str, Any]) -> list[list[int]]:
    tokenizer = Tokenizer.from_file(str(file_of(folder, "tokenizer.json")))
    return measure.encode(tokenizer, texts, card["max_tokens"])


def accuracy(folder: Path, card: dict[str, Any], data: Path) -> float:
    items = read_utterances(data)
    rows = ids_of(folder, [item.text for item in items], card)
    session = measure.open_session(folder / "model.onnx")
    return measure.evaluate(session, rows, items, card["labels"]).accuracy


def test_the_catalog_is_not_empty() -> None:
    assert ENTRIES, "models/catalog holds no entry"


@pytest.mark.parametrize("path", ENTRIES, ids=lambda path: "/".join(path.parts[-3:-1]))
def test_a_card_holds_what_everybody_relies_on(path: Path) -> None:
    card, folder = json.loads(path.read_text()), path.parent
    schema = json.loads((REPO / "services/contracts/card.schema.json").read_text())
    jsonschema.validate(card, schema)
    assert (card["model"], card["tier"]) == (folder.parent.name, folder.name)
    assert {"version", "task", "licence", "variant", "training", "machine", "p50_ms"} <= set(card)
    assert card["sha256"] == {
        name: hashlib.sha256(file_of(folder, name).read_bytes()).hexdigest() for name in FILES
    }
    assert card["labels"] == sorted(set(card["labels"]))
    assert {"test", "valid", "test_fp32"} <= set(card["accuracy"])
    assert card["accuracy"]["test_fp32"] - card["accuracy"]["test"] <= 0.005, "INT8 may lose half a point"
    assert all(0 < share <= 1 for share in card["accuracy"].values())
    assert {"name", "source", "licence", "train", "valid", "test"} <= set(card["data"])
    assert (folder / "README.md").read_text().startswith(f"# {card['model']}/{card['tier']}, version")


@pytest.mark.parametrize("path", ENTRIES, ids=lambda path: "/".join(path.parts[-3:-1]))
def test_what_depends_on_its_neighbours_is_served_alone(path: Path) -> None:
    card, folder = json.loads(path.read_text()), path.parent
    session = measure.open_session(file_of(folder, "model.onnx"))
    rows = ids_of(folder, [item.text for item in read_utterances(OWN)[:32]], card)
    alone = np.concatenate([measure.run(session, [row]) for row in rows])
    moved = np.abs(measure.run(session, rows) - alone).max()
    assert moved <= 1e-3 or card.get("max_batch") == 1


@pytest.mark.parametrize(
    "path",
    [path for path in ENTRIES if "variants" in json.loads(path.read_text())],
    ids=lambda path: "/".join(path.parts[-3:-1]),
)
def test_what_is_served_has_no_objection_that_matters(path: Path) -> None:
    card = json.loads(path.read_text())
    served = card["variants"][card["variant"]]
    assert not [why for why in served["objections"] if why.startswith("loses")]
    if card.get("max_batch"):
        return  # what runs alone need not be independent of neighbours
    assert served["objections"] == [] and served["batch_flips_labels"] == 0
    better = [n for n, v in card["variants"].items() if not v["objections"]]
    assert card["variant"] == min(better, key=lambda n: card["variants"][n]["size_mb"])


def test_tiny_is_tiny(tiny: Path, card: dict[str, Any]) -> None:
    size = sum((tiny / name).stat().st_size for name in FILES)
    assert size <= 600_000
    assert card["size_mb"] == pytest.approx(size / 1e6, abs=1e-3)


def test_the_graph_is_what_inference_expects(tiny: Path, card: dict[str, Any]) -> None:
    session = measure.open_session(tiny / "model.onnx")
    inputs = {i.name: (i.type, len(i.shape)) for i in session.get_inputs()}
    assert inputs == {"ids": ("tensor(int64)", 2), "lengths": ("tensor(int64)", 1)}
    (logits,) = session.get_outputs()
    assert (logits.name, logits.type, logits.shape[1]) == ("logits", "tensor(float)", len(card["labels"]))


def logits(session: ort.InferenceSession, rows: list[list[int]], width: int) -> Any:
    ids = np.zeros((len(rows), width), np.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
    lengths = np.array([len(row) for row in rows], np.int64)
    return session.run(["logits"], {"ids": ids, "lengths": lengths})[0]


def test_padding_has_no_say(tiny: Path, card: dict[str, Any]) -> None:
    session = measure.open_session(tiny / "model.onnx")
    rows = ids_of(tiny, [item.text for item in read_utterances(OWN)], card)
    for row in rows:
        bare = logits(session, [row], len(row))
        for width in (len(row) + 1, 40, card["max_tokens"]):
            np.testing.assert_allclose(logits(session, [row], width), bare, atol=1e-4)


def test_what_stands_in_the_padding_has_no_say(tiny: Path, card: dict[str, Any]) -> None:
    session = measure.open_session(tiny / "model.onnx")
    row = ids_of(tiny, ["turn on the kitchen light"], card)[0]
    lengths = np.array([len(row)], np.int64)
    clean, dirty = (np.array([row + [fill] * 20], np.int64) for fill in (0, 17))
    answers = [session.run(["logits"], {"ids": ids, "lengths": lengths})[0] for ids in (clean, dirty)]
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-4)


@pytest.mark.parametrize(
    "path",
    [
        path.parent
        for path in ENTRIES
        if path.parent.name == "tiny" and "heads" in json.loads(path.read_text())
    ],
    ids=lambda path: path.parent.name,
)
def test_the_card_does_not_flatter(path: Path, shared_sets: Path) -> None:
    card = json.loads((path / "card.json").read_text())
    for name, head in card["heads"].items():
        found = accuracy(path, card, shared_sets / name / "test.tsv")
        assert head["output"] == "logits" and found == pytest.approx(head["test"], abs=0.002)


def test_it_understands_sentences_of_our_own(tiny: Path, card: dict[str, Any]) -> None:
    measured = accuracy(tiny, card, OWN)
    assert measured >= 0.75
    assert measured == pytest.approx(card["accuracy"]["own_utterances"], abs=0.002)


def test_our_own_sentences_name_intents_of_the_model(card: dict[str, Any]) -> None:
    assert {item.intent for item in read_utterances(OWN)} <= set(card["labels"])
