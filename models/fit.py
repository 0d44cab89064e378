"""Training with one row of classes for several sets, labelled or taught; every epoch is kept to resume from."""

from __future__ import annotations

import hashlib
import os
import pickle
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models import distil
from models.batches import in_order
from models.corpus import Classes, Task
from models.intents.utterances import Utterance
from models.lessons import UNKNOWN_ID, Lessons

Tree = Any
"""Parameters: any tree of arrays."""


@dataclass(frozen=True)
class Course:
    """How long and by what a network is trained, besides its own shape and rates.

    stop ends it after so many of the epochs that the rates are laid out for, 0 after all of them. averaging: share of
    the running average that a step keeps. last: take the average as it is at the end, and not as it was after the epoch
    that did best on the validation parts.
    """

    seed: int
    epochs: int
    batch: int
    weights: distil.Weights
    averaging: float
    stop: int = 0
    last: bool = False


class Network(NamedTuple):
    """What is trained. trained: its parameters; scores: (parameters, ids, lengths, key) -> [batch, all classes],
    without dropout where the key is None; optimiser: steps -> how they are moved; sizes: padded lengths of its
    batches."""

    trained: Tree
    scores: Callable[[Tree, Any, Any, Any], Any]
    optimiser: Callable[[int], Any]
    sizes: Sequence[int]


class Progress(NamedTuple):
    """How far a training is: step of all steps, the running loss, and at an epoch's end what it does on validation,
    0..1 by name: accuracy by set."""

    epoch: int
    step: int
    steps: int
    loss: float
    valid: Mapping[str, float]


class Trained(NamedTuple):
    """What came out: the averaged parameters, what they do on validation (0..1 by name: accuracy by set), seconds of
    all the runs."""

    trained: Tree
    valid: dict[str, float]
    seconds: float


class State(NamedTuple):
    """Everything that a training needs to go on. valid: what `chosen` does on validation, in the order of the names."""

    trained: Tree
    average: Tree
    optimiser: Any
    step: Any
    key: Any
    chosen: Tree
    valid: Any


def fit(
    tasks: Sequence[Task],
    lessons: Lessons,
    network: Network,
    tokenizer: Tokenizer,
    course: Course,
    folder: Path,
    report: Callable[[Progress], None],
) -> Trained:
    """Train and return the averaged parameters.

    Every random choice derives from `course.seed`. After each epoch the state is written to `folder`, which must belong
    to this training alone (see `name`), and a later call goes on from there.
    """
    slices = [Classes(tasks).slices[task.name] for task in tasks]
    answer = jax.jit(lambda trained, ids, lengths: network.scores(trained, ids, lengths, None))

    def loss(trained: Tree, key: Any, batch: Any) -> Any:
        found = network.scores(trained, batch.ids, batch.lengths, key)
        return distil.loss(found, batch.soft, batch.targets, batch.of_task, slices, course.weights)

    def measured(average: Tree) -> dict[str, float]:
        return {
            task.name: accuracy(
                scores(lambda *batch: answer(average, *batch), task.valid, tokenizer, network.sizes),
                own, task.labels, task.valid,
            )
            for task, own in zip(tasks, slices, strict=True)
        }  # fmt: skip

    def epoch(random: Random) -> Iterable[Any]:
        return lessons.epoch(tokenizer, course.batch, random)

    total = course.epochs * (len(lessons) // course.batch)
    steps = Steps(loss, network.optimiser(total), total, course.averaging)
    names = [task.name for task in tasks]
    return run(
        network.trained, steps, epoch, measured, names, folder, report,
        seed=course.seed, epochs=course.stop or course.epochs, last=course.last,
    )  # fmt: skip


class Steps(NamedTuple):
    """How parameters move. loss: (parameters, key, batch) -> mean loss; total: steps that the rates are laid out for;
    averaging: share of the running average that a step keeps."""

    loss: Callable[[Tree, Any, Any], Any]
    optimiser: Any
    total: int
    averaging: float


def run(
    trained: Tree,
    steps: Steps,
    epoch: Callable[[Random], Iterable[Any]],
    measured: Callable[[Tree], dict[str, float]],
    names: Sequence[str],
    folder: Path,
    report: Callable[[Progress], None],
    *,
    seed: int,
    epochs: int,
    last: bool = False,
) -> Trained:
    """Train `epochs` epochs, or what is left of them, and return the averaged parameters of the one that did best on
    validation, or of the last.

    epoch: the batches of one, by its random numbers; measured: what the averaged parameters do on validation, under
    `names`. After each epoch the state is written to `folder`.
    """
    start = State(
        trained, trained, steps.optimiser.init(trained), 0, jax.random.key(seed, impl="rbg"), trained,
        np.zeros(len(names)),
    )  # fmt: skip
    done, state, before = _resume(folder, start)
    began = time.monotonic()
    step = _step(steps)
    for number in range(done + 1, epochs + 1):
        running = 0.0
        for at, batch in enumerate(epoch(Random(f"{seed}/{number}"))):
            state, loss = step(state, batch)
            running = float(loss) if not at else 0.98 * running + 0.02 * float(loss)
            report(Progress(number, int(state.step), steps.total, running, {}))
        told = measured(state.average)
        valid = np.array([told[name] for name in names])
        if last or valid.mean() >= np.mean(state.valid):
            state = state._replace(chosen=state.average, valid=valid)
        _keep(folder, number, state, before + time.monotonic() - began)
        report(Progress(number, int(state.step), steps.total, running, told))
    seconds = before + time.monotonic() - began
    return Trained(state.chosen, dict(zip(names, map(float, state.valid), strict=True)), seconds)


def _step(steps: Steps) -> Callable[..., tuple[State, Any]]:
    def move(trained: Tree, average: Tree, moved: Any, step: Any, key: Any, batch: Any) -> Any:
        key, now = jax.random.split(key)
        value, slope = jax.value_and_grad(steps.loss)(trained, now, batch)
        change, moved = steps.optimiser.update(slope, moved, trained)
        trained = optax.apply_updates(trained, change)
        # Early on the average follows closely, or it would still hold the random start.
        keep = jnp.minimum(steps.averaging, (1 + step) / (10 + step))
        average = jax.tree.map(lambda old, new: keep * old + (1 - keep) * new, average, trained)
        return trained, average, moved, step + 1, key, value

    compiled = jax.jit(move)

    def counted(state: State, batch: Any) -> tuple[State, Any]:
        trained, average, moved, step, key, value = compiled(*state[:5], batch)
        now = state._replace(trained=trained, average=average, optimiser=moved, step=step, key=key)
        return now, value

    return counted


Answer = Callable[[NDArray[np.int64], NDArray[np.int64]], Any]


def scores(
    answer: Answer, items: Sequence[Utterance], tokenizer: Tokenizer, sizes: Sequence[int], batch: int = 128
) -> NDArray[np.float32]:
    """Scores [items, all classes] in the order of the items. answer: (ids, lengths) -> [batch, all classes]."""
    rows = [
        encoding.ids or [UNKNOWN_ID] for encoding in tokenizer.encode_batch([item.text for item in items])
    ]
    found: dict[int, NDArray[np.float32]] = {}
    for part, ids, lengths in in_order(rows, sizes, batch):
        found |= zip(part, np.asarray(answer(ids, lengths)), strict=False)
    return np.stack([found[row] for row in range(len(rows))])


def accuracy(
    found: NDArray[np.float32], own: slice, labels: Sequence[str], items: Sequence[Utterance]
) -> float:
    """Share (0..1) of the items whose best class in the slice `own` of `found` [items, classes] is their intent."""
    best = found[:, own].argmax(axis=1)
    return float(np.mean([labels[at] == item.intent for at, item in zip(best, items, strict=True)]))


def name(tasks: Sequence[Task], *decisive: Any) -> str:
    """A name for the folder of a training: other sentences or other settings, whatever `repr` tells apart, give
    another."""
    digest = hashlib.sha256(repr(decisive).encode())
    for task in tasks:
        for item in (*task.train, *task.valid):
            digest.update(f"{item.text}\t{item.intent}\n".encode())
    return digest.hexdigest()[:16]


def _keep(folder: Path, epoch: int, state: State, seconds: float) -> None:
    """Write the state of an epoch; whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"unfinished.{os.getpid()}"
    plain = jax.tree.map(np.asarray, state._replace(key=jax.random.key_data(state.key)))
    with unfinished.open("wb") as file:
        pickle.dump((epoch, jax.tree.leaves(plain), seconds), file)
    unfinished.replace(folder / "state.pickle")


def _resume(folder: Path, start: State) -> tuple[int, State, float]:
    """The epoch that was finished last, its state and the seconds until then; 0 and `start` when there is none."""
    file = folder / "state.pickle"
    if not file.exists():
        return 0, start, 0.0
    with file.open("rb") as opened:
        epoch, leaves, seconds = pickle.load(opened)  # noqa: S301  # our own file, in the user's own cache
    shape = jax.tree.structure(start._replace(key=jax.random.key_data(start.key)))
    state: State = jax.tree.unflatten(shape, leaves)
    return epoch, state._replace(key=jax.random.wrap_key_data(state.key, impl="rbg")), seconds
