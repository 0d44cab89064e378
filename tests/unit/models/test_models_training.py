"""Training end to end on sentences made up here: a loadable entry comes out, and mistakes are named."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path
from random import Random
from typing import Any

import jsonschema
import numpy as np
import pytest
from tokenizers import Tokenizer

from models.intents import measure
from models.intents.recipe import Recipe
from models.intents.utterances import Utterance, read_utterances, vary

REPO = Path(__file__).resolve().parents[3]
SMALL = Recipe(epochs=1, batch=8, features=8, hidden=8, vocabulary=200)
ABOUT = {"name": "made up", "source": "this file", "licence": "none"}
SAYINGS = {
    "light_on": ("turn on", "switch on", "light up", ("the kitchen", "the hall", "my", "every"), "lamp"),
    "music_play": ("play", "put on", "I want", ("some", "a bit of", "loud", "soft"), "jazz"),
    "weather_ask": ("will it", "does it", "could it", ("really", "still", "soon", "also"), "rain"),
}


def sentences(seed: int, count: int) -> list[Utterance]:
    """`count` sentences of three intents, each from a pattern of its own."""
    made = []
    random = Random(seed)
    for number, intent in zip(range(count), itertools.cycle(SAYINGS), strict=False):
        *heads, middles, tail = SAYINGS[intent]
        words = (random.choice(heads), random.choice(middles), tail, random.choice(("", "now", "today")))
        made.append(Utterance(" ".join(str(w) for w in words).strip() + f" {number % 7}", intent))
    return made


def parts() -> dict[str, list[Utterance]]:
    return {"train": sentences(1, 200), "valid": sentences(2, 40), "test": sentences(3, 40)}


@pytest.mark.usefixtures("needs_training")
def test_one_epoch_gives_an_entry_that_serves(tmp_path: Path) -> None:
    from models.intents.entry import build_entry  # noqa: PLC0415 (needs the packages for training)

    out = tmp_path / "catalog" / "toy" / "small"
    epochs: list[Any] = []
    card = build_entry(parts(), sentences(4, 12), SMALL, out, version="7", about=ABOUT, report=epochs.append)

    assert [epoch.number for epoch in epochs] == [1]
    assert card == json.loads((out / "card.json").read_text())
    assert (card["model"], card["tier"], card["version"]) == ("toy", "small", "7")
    assert card["labels"] == sorted(SAYINGS)
    assert ABOUT.items() <= card["data"].items(), "the card must not claim other data than it was trained on"
    assert card["licence"].endswith("data none")
    jsonschema.validate(card, json.loads((REPO / "services/contracts/card.schema.json").read_text()))
    for name, digest in card["sha256"].items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    assert (out / "README.md").read_text().startswith("# toy/small, version 7")

    rows = measure.encode(
        Tokenizer.from_file(str(out / "tokenizer.json")), ["turn on my lamp", "rain"], card["max_tokens"]
    )
    answers = measure.run(measure.open_session(out / "model.onnx"), rows)
    assert answers.shape == (2, 3)
    assert np.isfinite(answers).all()


@pytest.mark.usefixtures("needs_training")
def test_training_learns_and_the_export_is_the_same_function(tmp_path: Path) -> None:
    from models.batches import pad  # noqa: PLC0415
    from models.intents.fit import STEP_SIZES, fit  # noqa: PLC0415
    from models.intents.network import export, logits  # noqa: PLC0415
    from models.intents.vocabulary import train_vocabulary  # noqa: PLC0415

    data = parts()
    tokenizer = train_vocabulary((item.text for item in data["train"]), 200)
    recipe = Recipe(epochs=8, batch=16, features=8, hidden=8, vocabulary=200, rate=2e-2, averaging=0.9)
    network, valid = fit(data["train"], data["valid"], sorted(SAYINGS), tokenizer, recipe, lambda epoch: None)
    assert valid > 0.9

    rows = measure.encode(tokenizer, [item.text for item in data["test"]], 64)
    ids, lengths = pad(rows, STEP_SIZES)
    exported = measure.run(measure.open_session(export(network, tmp_path / "m.onnx")), rows)
    np.testing.assert_allclose(exported, np.asarray(logits(network, ids, lengths)), atol=1e-4)


@pytest.mark.usefixtures("needs_training")
def test_the_same_seed_gives_the_same_weights() -> None:
    from models.intents.fit import fit  # noqa: PLC0415
    from models.intents.vocabulary import train_vocabulary  # noqa: PLC0415

    data = parts()
    tokenizer = train_vocabulary((item.text for item in data["train"]), 200)

    def train(seed: int) -> list[Any]:
        recipe = Recipe(seed=seed, epochs=1, batch=16, features=4, hidden=4, vocabulary=200)
        network, _ = fit(data["train"], data["valid"], sorted(SAYINGS), tokenizer, recipe, lambda epoch: None)
        return [np.asarray(network.embedding), np.asarray(network.weight), np.asarray(network.forward.kernel)]

    first, again, other = train(1), train(1), train(2)
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert not any(np.array_equal(one, two) for one, two in zip(first, other, strict=True))


@pytest.mark.usefixtures("needs_training")
def test_too_few_sentences_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    from models.intents.entry import build_entry  # noqa: PLC0415

    few = parts() | {"train": sentences(1, 7)}
    with pytest.raises(ValueError, match="7 sentences are too few"):
        build_entry(
            few, sentences(4, 3), SMALL, tmp_path / "m/t", version="1", about=ABOUT, report=lambda epoch: None
        )
    assert not (tmp_path / "m").exists()


def test_variations_keep_what_was_said() -> None:
    random = Random(1)
    varied = {vary("Olly, wake me up at seven", random) for _ in range(200)}
    assert len(varied) > 4
    assert all("wake me up at" in text for text in varied)
    assert {"seven", "7"} == {word for text in varied for word in ("seven", "7") if word in text}
    assert all(vary(text, random).strip() for text in ("olly", "...", "?", "s1") for _ in range(50))


def write_parts(folder: Path, **instead: bytes) -> Path:
    for name, items in parts().items():
        rows = "".join(f"{item.text}\t{item.intent}\n" for item in items)
        (folder / f"{name}.tsv").write_bytes(instead.get(name, f"text\tintent\n{rows}".encode()))
    return folder


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b"sentence,label\nhello,greet\n", "valid.tsv:1:"),
        (b"", "valid.tsv:1:"),
        (b"text\tintent\n", "valid.tsv:2:"),
        (b"text\tintent\nhello\tgreet\nno tab here\n", "valid.tsv:3:"),
        (b"text\tintent\nhello\tgreet\n\t\n", "valid.tsv:3:"),
        (b"text\tintent\nhello\tgreet\nbye\tleave\textra\n", "valid.tsv:3:"),
        (b"text\tintent\nhello\tgreet\n\xff\xfe\tgreet\n", "valid.tsv:3:"),
        (b"text\tintent\n" + b"x" * 200_000 + b"\tgreet\n", "valid.tsv:2:"),
    ],
    ids=["header", "empty", "no-rows", "no-tab", "blank", "three-columns", "not-utf8", "huge-field"],
)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, content: bytes, where: str) -> None:
    write_parts(tmp_path, valid=content)
    with pytest.raises(ValueError) as raised:
        read_utterances(tmp_path / "valid.tsv")
    assert str(raised.value).startswith(str(tmp_path / where))


def test_a_byte_order_mark_and_quotes_do_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "own.tsv"
    file.write_bytes('\ufefftext\tintent\r\nplay "jazz\tmusic_play\r\n'.encode())
    assert read_utterances(file) == [Utterance('play "jazz', "music_play")]


def test_the_command_names_file_and_line_and_exits_with_2(tmp_path: Path, run_training: Any) -> None:
    done = run_training(write_parts(tmp_path, test=b"text\tintent\nhello\n"), tmp_path / "m/t")
    assert done.returncode == 2
    assert f"{tmp_path / 'test.tsv'}:2:" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "m").exists()


def test_the_command_names_a_file_that_is_not_there(tmp_path: Path, run_training: Any) -> None:
    write_parts(tmp_path)
    (tmp_path / "train.tsv").unlink()
    done = run_training(tmp_path, tmp_path / "m/t")
    assert done.returncode == 2
    assert str(tmp_path / "train.tsv") in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_refuses_zero_epochs(tmp_path: Path, run_training: Any) -> None:
    done = run_training(tmp_path, tmp_path / "m/t", "--epochs", "0")
    assert done.returncode == 2
    assert "--epochs" in done.stderr
