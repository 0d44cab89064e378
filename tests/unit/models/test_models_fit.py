"""Training with several sets at once: it learns, resumes where it was stopped, and hears a teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

pytest.importorskip("jax", reason="training needs the lock `train`", exc_type=ImportError)

import jax

from models import distil, fit
from models.corpus import Classes, Task
from models.intents import fit as lstm
from models.intents import measure, network
from models.intents.recipe import Recipe
from models.intents.vocabulary import train_vocabulary
from models.lessons import Lessons, Told
from tests.unit.models.sets import task

RECIPE = Recipe(
    epochs=6, batch=16, features=16, hidden=16, vocabulary=200, rate=2e-2, averaging=0.9, word_dropout=0.0,
    embedding_dropout=0.0, pooled_dropout=0.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    return [task("home"), task("bank")]


@pytest.fixture(scope="module")
def tokenizer(tasks: list[Task]) -> Tokenizer:
    return train_vocabulary((item.text for one in tasks for item in one.train), 200)


def train(
    tasks: list[Task], tokenizer: Tokenizer, folder: Path, report: Any, told: Told | None = None, **more: Any
) -> Any:
    recipe = Recipe(**{**vars(RECIPE), **more})
    classes = Classes(tasks)
    begin = lstm.start(recipe, tokenizer.get_vocab_size(), len(classes.names))
    lessons = Lessons(tasks, classes, sizes=lstm.STEP_SIZES, told=told, variants=recipe.variants)
    return fit.fit(
        tasks, lessons, lstm.network(recipe, begin), tokenizer, lstm.course(recipe), folder, report
    )


@pytest.fixture(scope="module")
def trained(
    tasks: list[Task], tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[fit.Trained, Path]:
    """What came of one uninterrupted training, and the folder of its epochs."""
    folder = tmp_path_factory.mktemp("cache")
    return train(tasks, tokenizer, folder, lambda now: None), folder


def same(one: Any, other: Any) -> None:
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_it_learns_both_sets_and_the_export_is_the_same_function(
    tasks: list[Task], tokenizer: Tokenizer, trained: tuple[fit.Trained, Path], tmp_path: Path
) -> None:
    made = trained[0]
    assert set(made.valid) == {"home", "bank"} and min(made.valid.values()) > 0.9
    best = network.Network(*made.trained)
    slices = Classes(tasks).slices
    path = network.export(
        best, {"logits": slices["home"], "logits.bank": slices["bank"]}, tmp_path / "m.onnx"
    )
    session = measure.open_session(path)
    rows = measure.encode(tokenizer, [item.text for item in tasks[0].test], 64)
    ids = np.zeros((len(rows), 12), np.int64)
    for at, row in enumerate(rows):
        ids[at, : len(row)] = row
    lengths = np.array([len(row) for row in rows])
    expected = np.asarray(network.logits(best, ids, lengths))
    home, bank = session.run(["logits", "logits.bank"], {"ids": ids, "lengths": lengths})
    np.testing.assert_allclose(home, expected[:, slices["home"]], atol=1e-5)
    np.testing.assert_allclose(bank, expected[:, slices["bank"]], atol=1e-5)
    longest = int(lengths.max())
    unpadded = session.run(["logits"], {"ids": ids[:, :longest], "lengths": lengths})[0]
    np.testing.assert_allclose(unpadded, home, atol=1e-5)


class Interrupted(Exception):
    pass


def test_an_interrupted_training_goes_on_and_ends_the_same(
    tasks: list[Task], tokenizer: Tokenizer, trained: tuple[fit.Trained, Path], tmp_path: Path
) -> None:
    def interrupt(now: fit.Progress) -> None:
        if now.epoch == 2 and not now.valid:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(tasks, tokenizer, tmp_path, interrupt)
    epochs: set[int] = set()
    made = train(tasks, tokenizer, tmp_path, lambda now: epochs.add(now.epoch))
    assert epochs == set(range(2, RECIPE.epochs + 1)), "the first was kept"
    assert made.valid == trained[0].valid
    same(made.trained, trained[0].trained)


def test_a_finished_training_is_not_done_again(
    tasks: list[Task], tokenizer: Tokenizer, trained: tuple[fit.Trained, Path]
) -> None:
    steps: list[fit.Progress] = []
    made = train(tasks, tokenizer, trained[1], steps.append)
    assert steps == [] and made.valid == trained[0].valid
    same(made.trained, trained[0].trained)


def test_the_same_seed_gives_the_same_weights(
    tasks: list[Task], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    first, again, other = (
        train(tasks, tokenizer, tmp_path / name, lambda now: None, epochs=1, seed=seed).trained
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    same(first, again)
    with pytest.raises(AssertionError):
        same(first, other)


def test_a_training_has_a_folder_of_its_own(tasks: list[Task]) -> None:
    assert fit.name(tasks, RECIPE) == fit.name([task("home"), task("bank")], RECIPE)
    assert fit.name(tasks, RECIPE) != fit.name(tasks[:1], RECIPE)
    assert fit.name(tasks, RECIPE) != fit.name(tasks, "another recipe")


def test_a_student_learns_from_its_teacher_alone(
    tasks: list[Task], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """The teacher takes every intent for the next one: a student that hears it alone says what the teacher says."""
    classes = Classes(tasks)
    targets = np.concatenate([classes.targets(one, one.train) for one in tasks])
    wrong = targets.copy()
    for part in classes.slices.values():
        own = (targets >= part.start) & (targets < part.stop)
        wrong[own] = part.start + (targets[own] - part.start + 1) % (part.stop - part.start)
    plain = np.full((len(targets), len(classes.names)), -4, np.float32)
    plain[np.arange(len(targets)), wrong] = 4
    told = Told(
        plain, [[] for _ in targets], np.zeros((len(targets), 0, len(classes.names)), np.float32), "wrong"
    )
    deaf = train(tasks, tokenizer, tmp_path / "deaf", lambda now: None, told=told, alpha=0.0)
    heard = train(tasks, tokenizer, tmp_path / "heard", lambda now: None, told=told, alpha=1.0)
    assert min(deaf.valid.values()) > 0.9
    assert max(heard.valid.values()) < 0.1


def test_the_loss_is_nothing_where_the_student_says_what_the_teacher_says() -> None:
    scores = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    slices = [slice(0, 3), slice(3, 7)]
    of_task = np.array([0, 1, 0, 1, 1])
    none = np.full(5, -1)
    weights = distil.Weights(alpha=0.5, temperature=3.0, smoothing=0.1, others=0.5)
    assert float(distil.loss(scores, scores, none, of_task, slices, weights)) == pytest.approx(0, abs=1e-6)
    assert float(distil.loss(scores, -scores, none, of_task, slices, weights)) > 0.1
    # What another set's head says counts where it is told to, and not where it is not.
    other = scores.copy()
    other[of_task == 0, 3:] += np.array([3, 0, 0, -3], np.float32)
    deaf = weights._replace(others=0.0)
    assert float(distil.loss(other, scores, none, of_task, slices, deaf)) == pytest.approx(0, abs=1e-6)
    assert float(distil.loss(other, scores, none, of_task, slices, weights)) > 0.1


def test_labels_alone_are_plain_cross_entropy() -> None:
    scores = np.array([[2.0, 0.0, 9.0], [0.0, 1.0, -5.0]], np.float32)
    weights = distil.Weights(alpha=0.0, temperature=1.0, smoothing=0.0)
    found = distil.loss(
        scores, scores * 0, np.array([0, 1]), np.array([0, 0]), [slice(0, 2), slice(2, 3)], weights
    )
    expected = np.mean([np.log(1 + np.exp(-2.0)), np.log(1 + np.exp(-1.0))])
    assert float(found) == pytest.approx(expected, abs=1e-5)
