"""Training a parser in miniature: both heads learn, it resumes, a teacher is heard, the entry serves and is whole."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import jsonschema
import numpy as np
import pytest

pytest.importorskip("jax", reason="training needs the lock `train`", exc_type=ImportError)
pytest.importorskip("onnx_ir", reason="training needs the lock `train`")

import jax
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models import entries, evaluate
from models.fit import Progress
from models.intents import fit as lstm_fit
from models.intents.recipe import Recipe as LstmRecipe
from models.intents.vocabulary import train_vocabulary
from models.minilm import fit as minilm_fit
from models.minilm.export import export
from models.minilm.network import Linear
from models.minilm.recipe import Recipe as EncoderRecipe
from models.minilm.start import Start
from models.slots import student
from models.slots.annotations import Command, Span, parse, tag_names
from models.slots.corpus import Commands, Names, read_set
from models.slots.decode import decode
from models.slots.entry import build_entry
from models.slots.fit import Course, loss
from models.slots.lessons import Batch
from models.slots.network import Scores
from models.slots.recipe import Recipe
from models.slots.teacher import Teacher
from models.train import about
from tests.unit.models.encoders import random_encoder

Floats = NDArray[np.float32]
REPO = Path(__file__).resolve().parents[3]
LONGEST = 16
THINGS, PLACES = ("lamp", "desk lamp", "radio", "heater"), ("kitchen", "garden", "hall", "cellar")
TINY = Recipe(
    LstmRecipe(
        epochs=30, batch=16, features=16, hidden=16, vocabulary=90, rate=2e-2, averaging=0.8, alpha=0.5,
        word_dropout=0.0, embedding_dropout=0.0, pooled_dropout=0.0,
    ),
)  # fmt: skip
MINI = Recipe(
    EncoderRecipe(
        epochs=30, batch=16, longest=LONGEST, rate=3e-3, head_rate=2e-2, dropout=0.0, averaging=0.8, layers=(1,),
        heads=2, units=24,
    )
)  # fmt: skip
ABOUT = about([], "nothing", "this file", "none")


def sentences(seed: int, count: int) -> list[str]:
    """Annotated commands of two intents and two types of slots."""
    random = Random(seed)
    return [
        f"please now turn {('on', 'off')[at % 2]} the [thing : {random.choice(THINGS)}] "
        f"{random.choice(('in', 'of'))} the [place : {random.choice(PLACES)}]"
        for at in range(count)
    ]


def commands(seed: int, count: int) -> list[Command]:
    found = []
    for at, annotated in enumerate(sentences(seed, count)):
        text, spans = parse(annotated)
        found.append(Command(text, ("on", "off")[at % 2], spans))
    return found


NAMES = Names(["off", "on"], tag_names(["thing", "place"]))
SET = Commands("home", commands(1, 96), commands(2, 16), commands(3, 16), NAMES)


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One length of batches, and what is compiled for one test is there for the next: compiling takes all the time."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lstm_fit, "STEP_SIZES", (LONGEST,))
        patch.setattr(minilm_fit, "STEP_SIZES", (LONGEST,))
        for name, value in zip(names, (str(tmp_path_factory.mktemp("compiled")), 0.3), strict=True):
            jax.config.update(name, value)
        yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture(scope="module")
def begin() -> Start:
    tokenizer = train_vocabulary([command.text for command in SET.train], 120)
    encoder = random_encoder(
        vocabulary=tokenizer.get_vocab_size(), longest=LONGEST, features=16, heads=4, size=4, units=32, layers=2,
        spread=0.3,
    )  # fmt: skip
    return Start(encoder, tokenizer, {}, "random")


@pytest.fixture(scope="module")
def model(begin: Start, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the model `command`, with a mini and a tiny that it taught."""
    folder = tmp_path_factory.mktemp("catalog")
    made = student.make(SET, begin, None, MINI, folder / "cache", lambda now: None)
    build_entry(SET, made, folder / "command/mini", version="1", about=ABOUT)
    teacher = Teacher(entries.read_entry(folder / "command/mini"), NAMES.labels, NAMES.tags)
    made = student.make(SET, begin, teacher, TINY, folder / "cache", lambda now: None)
    build_entry(SET, made, folder / "command/tiny", version="1", about=ABOUT)
    return folder / "command"


@pytest.mark.parametrize("tier", ["mini", "tiny"])
def test_an_entry_comes_out_that_says_what_it_does(model: Path, tier: str) -> None:
    entry = entries.read_entry(model / tier)
    card = entry.card
    jsonschema.validate(card, json.loads((REPO / "services/contracts/card.schema.json").read_text()))
    assert (card["task"], card["labels"], card["tags"]) == ("command", NAMES.labels, NAMES.tags)
    assert card["accuracy"]["test"] > 0.9 and card["accuracy"]["entity_f1"] > 0.9
    assert evaluate.evaluate(entry, SET.test).accuracy == card["accuracy"]["test"]
    assert (model / tier / "README.md").read_text().startswith(f"# command/{tier}, version 1")
    assert sorted(path.name for path in model.iterdir()) == ["mini", "tiny"], "nothing unfinished is left"
    bound = card["max_batch"]
    assert bound == (1 if card["variant"] in ("int8", "int8-dynamic") else 0)
    assert bound == 1 or not card["variants"][card["variant"]]["objections"]


@pytest.mark.parametrize("tier", ["mini", "tiny"])
def test_the_entry_alone_is_enough_to_parse(model: Path, tier: str) -> None:
    """With nothing but its files, for a command as nobody typed it in training."""
    folder = model / tier
    card = json.loads((folder / "card.json").read_text())
    session = ort.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = "Please now turn OFF the Desk Lamp of the Garden!"
    encoding = tokenizer.encode(text)
    feed = {"ids": np.array([encoding.ids]), "lengths": np.array([len(encoding.ids)])}
    logits, tags = session.run(["logits", "tags"], feed)
    assert card["labels"][logits[0].argmax()] == "off"
    assert decode(tags[0], encoding.offsets, text, card["tags"]) == [
        Span("thing", 24, 33),
        Span("place", 41, 47),
    ]


def test_training_goes_on_where_it_was_stopped(begin: Start, tmp_path: Path) -> None:
    recipe = dataclasses.replace(TINY, body=dataclasses.replace(TINY.body, epochs=3))
    told: list[Progress] = []
    whole = student.make(SET, begin, None, recipe, tmp_path / "whole", told.append)
    assert told[-1].step == told[-1].steps == 18 and set(told[-1].valid) == {"intent", "slots"}

    class Stopped(Exception):
        pass

    def stop(now: Progress) -> None:
        if now.epoch == 2 and now.step == 9:
            raise Stopped

    with pytest.raises(Stopped):
        student.make(SET, begin, None, recipe, tmp_path / "parts", stop)
    again: list[Progress] = []
    resumed = student.make(SET, begin, None, recipe, tmp_path / "parts", again.append)
    assert again[0].epoch == 2 and again[0].step == 7, "the first epoch is not done again"
    one, other = whole.export(tmp_path / "one.onnx"), resumed.export(tmp_path / "other.onnx")
    assert one.read_bytes() == other.read_bytes()
    again.clear()
    other_seed = dataclasses.replace(recipe, body=dataclasses.replace(recipe.body, seed=2))
    student.make(SET, begin, None, other_seed, tmp_path / "parts", again.append)
    assert again[0].epoch == 1, "another recipe is another training"


def test_both_heads_and_the_teacher_have_a_part_in_the_loss() -> None:
    random = np.random.default_rng(1)

    def draw(*shape: int) -> Floats:
        return random.normal(size=shape).astype(np.float32)

    targets = np.array([[0, 2, -1], [1, -1, -1]])
    batch = Batch(
        np.zeros((2, 3), np.int64), np.array([2, 1]), np.array([0, 1]), targets, draw(2, 2), draw(2, 3, 4)
    )
    scores = Scores(draw(2, 2), draw(2, 3, 4))
    labels = Course(
        seed=1, epochs=1, batch=2, tags=2.0, alpha=0.0, temperature=2.0, smoothing=0.0, averaging=0.9
    )

    def crossed(found: Floats, wanted: list[int]) -> float:
        rows = found - np.log(np.exp(found).sum(axis=-1, keepdims=True))
        return -float(np.mean([row[at] for row, at in zip(rows, wanted, strict=True)]))

    tagged = np.stack([scores.tags[0, 0], scores.tags[0, 1], scores.tags[1, 0]])
    expected = crossed(scores.intents, [0, 1]) + 2.0 * crossed(tagged, [0, 2, 1])
    assert float(loss(scores, batch, labels)) == pytest.approx(expected, rel=1e-5)
    padded = scores._replace(tags=np.where(targets[:, :, None] < 0, 99.0, scores.tags))
    assert float(loss(padded, batch, labels)) == pytest.approx(expected, rel=1e-5), "padding costs nothing"
    taught = labels._replace(alpha=1.0)
    agreed = Scores(batch.soft_intents, batch.soft_tags)
    assert float(loss(agreed, batch, taught)) == pytest.approx(0.0, abs=1e-5)
    assert float(loss(scores, batch, taught)) > 0.05
    silent = batch._replace(soft_intents=0 * batch.soft_intents, soft_tags=0 * batch.soft_tags)
    assert float(loss(scores, silent, taught)) == pytest.approx(expected, rel=1e-5), "the labels speak then"


def test_a_teacher_of_other_commands_is_refused(model: Path) -> None:
    entry = entries.read_entry(model / "mini")
    with pytest.raises(ValueError, match=r"mini/card\.json does not name the intents and slot types"):
        Teacher(entry, NAMES.labels, tag_names(["thing"]))
    with pytest.raises(ValueError, match="name an entry that was trained on them"):
        Teacher(entry, ["off", "on", "dim"], NAMES.tags)


def test_too_few_sentences_are_refused(begin: Start, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="15 sentences are too few to train on"):
        student.make(SET._replace(train=SET.train[:15]), begin, None, TINY, tmp_path, lambda now: None)


def write(folder: Path, train: int = 96, **instead: str) -> Path:
    folder.mkdir()
    for name, seed, count in (("train", 1, train), ("test", 3, 16)):
        rows = "".join(
            f"{command.text}\t{command.intent}\t{annotated}\n"
            for command, annotated in zip(commands(seed, count), sentences(seed, count), strict=True)
        )
        (folder / f"{name}.tsv").write_text("text\tintent\tannotated\n" + instead.get(name, rows))
    return folder


def command(data: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "models.train_command", "--data", str(data), "--out", str(out), *more],
        cwd=REPO, capture_output=True, text=True, timeout=240, check=False,
        env=os.environ | {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_the_command_names_what_is_wrong_and_writes_nothing(tmp_path: Path) -> None:
    data = write(tmp_path / "open", test="a lamp\ton\ta [thing : lamp\n")
    done = command(data, tmp_path / "m")
    assert done.returncode == 2 and f"{data / 'test.tsv'}:2: the bracket of" in done.stderr
    done = command(write(tmp_path / "set"), tmp_path / "m", "--teacher", str(tmp_path / "m/base"))
    assert done.returncode == 2 and "not in the catalog" in done.stderr
    done = command(tmp_path / "set", tmp_path / "m", "--tier", "tyni")
    assert done.returncode == 2 and "'tiny'" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "m").exists()


def test_the_command_trains_on_commands_of_ones_own(tmp_path: Path, begin: Start) -> None:
    base = tmp_path / "base"
    export(
        begin.encoder,
        {"logits": Linear(np.zeros((16, 2), np.float32), np.zeros(2, np.float32))},
        base / "model.onnx",
    )
    begin.tokenizer.save(str(base / "tokenizer.json"))
    data = write(tmp_path / "own")
    assert len(read_set(data).valid) == 8, "one in ten of each intent is held out"
    done = command(
        data, tmp_path / "catalog/own", "--epochs", "2", "--base", str(base), "--cache", str(tmp_path / "c"),
        "--data-licence", "mine",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    card = entries.find(tmp_path / "catalog", "own", "tiny").card
    assert card["licence"].endswith("data mine") and card["data"]["valid"] == 8
    assert "own/tiny: " in done.stdout and "slots" in done.stdout and "Traceback" not in done.stderr
