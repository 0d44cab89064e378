"""Joint training of both heads; every epoch is kept to resume from, as `models.fit` keeps those of the intents."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tokenizers import Tokenizer

from models import fit as kept
from models.batches import pad
from models.fit import Progress, State, Tree
from models.lessons import UNKNOWN_ID
from models.slots.annotations import Command, Span, score
from models.slots.corpus import Names
from models.slots.decode import decode
from models.slots.lessons import Batch, Lessons
from models.slots.network import Scores


class Parser(NamedTuple):
    """What is trained. trained: its parameters; scores: (parameters, ids, lengths, key) -> Scores, without dropout
    where the key is None; optimiser: steps -> how they are moved; sizes: padded lengths of its batches."""

    trained: Tree
    scores: Callable[[Tree, Any, Any, Any], Scores]
    optimiser: Callable[[int], Any]
    sizes: Sequence[int]


class Course(NamedTuple):
    """How long and by what it is trained. tags: weight of the tags' loss beside the intent's; alpha: the teacher's
    share of both; smoothing: of the intents' labels; averaging: share of the running average that a step keeps."""

    seed: int
    epochs: int
    batch: int
    tags: float
    alpha: float
    temperature: float
    smoothing: float
    averaging: float


class Trained(NamedTuple):
    """What came out: the averaged parameters, intent accuracy and entity F1 on validation (0..1), seconds of all the
    runs."""

    trained: Tree
    accuracy: float
    entity_f1: float
    seconds: float


def fit(
    lessons: Lessons,
    valid: Sequence[Command],
    names: Names,
    parser: Parser,
    tokenizer: Tokenizer,
    course: Course,
    folder: Path,
    report: Callable[[Progress], None],
) -> Trained:
    """Train and return the averaged parameters as they were after the epoch with the best mean of intent accuracy and
    entity F1 on `valid`.

    Every random choice derives from `course.seed`. After each epoch the state is written to `folder`, which must belong
    to this training alone, and a later call goes on from there. Progress reports `intent` and `slots` by epoch.
    """
    steps = course.epochs * (len(lessons) // course.batch)
    optimiser = parser.optimiser(steps)
    start = State(
        parser.trained, parser.trained, optimiser.init(parser.trained), 0,
        jax.random.key(course.seed, impl="rbg"), parser.trained, np.zeros(2),
    )  # fmt: skip
    done, state, before = kept._resume(folder, start)
    began = time.monotonic()
    step = _step(parser, optimiser, course)
    answer = jax.jit(lambda trained, ids, lengths: parser.scores(trained, ids, lengths, None))
    for epoch in range(done + 1, course.epochs + 1):
        running = 0.0
        for number, batch in enumerate(
            lessons.epoch(tokenizer, course.batch, Random(f"{course.seed}/{epoch}"))
        ):
            state, loss = step(state, batch)
            running = float(loss) if not number else 0.98 * running + 0.02 * float(loss)
            report(Progress(epoch, int(state.step), steps, running, {}))
        found = measured(partial(answer, state.average), valid, names, tokenizer, parser.sizes)
        if np.mean(found) >= np.mean(state.valid):
            state = state._replace(chosen=state.average, valid=np.array(found))
        kept._keep(folder, epoch, state, before + time.monotonic() - began)
        report(Progress(epoch, int(state.step), steps, running, {"intent": found[0], "slots": found[1]}))
    accuracy, f1 = map(float, state.valid)
    return Trained(state.chosen, accuracy, f1, before + time.monotonic() - began)


def _step(parser: Parser, optimiser: Any, course: Course) -> Callable[..., tuple[State, Any]]:
    def run(trained: Tree, average: Tree, moved: Any, step: Any, key: Any, batch: Batch) -> Any:
        key, now = jax.random.split(key)
        value, slope = jax.value_and_grad(
            lambda trained: loss(parser.scores(trained, batch.ids, batch.lengths, now), batch, course)
        )(trained)
        change, moved = optimiser.update(slope, moved, trained)
        trained = optax.apply_updates(trained, change)
        # Early on the average follows closely, or it would still hold the random start.
        keep = jnp.minimum(course.averaging, (1 + step) / (10 + step))
        average = jax.tree.map(lambda old, new: keep * old + (1 - keep) * new, average, trained)
        return trained, average, moved, step + 1, key, value

    compiled = jax.jit(run)

    def counted(state: State, batch: Batch) -> tuple[State, Any]:
        trained, average, moved, step, key, value = compiled(*state[:5], batch)
        now = state._replace(trained=trained, average=average, optimiser=moved, step=step, key=key)
        return now, value

    return counted


def loss(scores: Scores, batch: Batch, course: Course) -> Any:
    """Mean loss of a batch: the intents', and `course.tags` times the tags', each token counting the same."""
    intents = _term(scores.intents, batch.soft_intents, batch.intents, course, course.smoothing)
    tags = _term(scores.tags, batch.soft_tags, batch.tags, course, 0.0)
    return intents + course.tags * tags


def _term(scores: Any, soft: Any, targets: Any, course: Course, smoothing: float) -> Any:
    """Cross-entropy with `targets` [...] and, for the teacher's share, the divergence from what it says, softened
    (Hinton et al. 2015, as in `models.distil`). scores, soft: [..., classes]. Negative targets do not count; where the
    teacher said nothing, all zeros, the labels have its share."""
    classes = scores.shape[-1]
    wanted = jax.nn.one_hot(targets, classes) * (1 - smoothing) + smoothing / classes
    each = -jnp.sum(wanted * jax.nn.log_softmax(scores), axis=-1)
    if course.alpha:
        told = jax.nn.log_softmax(soft / course.temperature)
        gap = told - jax.nn.log_softmax(scores / course.temperature)
        divergence = course.temperature**2 * jnp.sum(jnp.exp(told) * gap, axis=-1)
        share = course.alpha * jnp.any(soft != 0, axis=-1)
        each = (1 - share) * each + share * divergence
    counted = targets >= 0
    return jnp.sum(jnp.where(counted, each, 0.0)) / jnp.maximum(jnp.sum(counted), 1)


Answer = Callable[[Any, Any], Scores]


def measured(
    answer: Answer,
    commands: Sequence[Command],
    names: Names,
    tokenizer: Tokenizer,
    sizes: Sequence[int],
    batch: int = 128,
) -> tuple[float, float]:
    """Intent accuracy and entity F1 (0..1) of the commands. answer: (ids, lengths) -> Scores."""
    encodings = tokenizer.encode_batch([command.text for command in commands])
    rows = [encoding.ids or [UNKNOWN_ID] for encoding in encodings]
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    right, wanted, found = 0, [], []
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        ids, lengths = pad([rows[row] for row in part], sizes)
        # One shape per length: a last, smaller batch would be compiled on its own.
        ids = np.concatenate([ids, np.zeros((batch - len(part), ids.shape[1]), np.int64)])
        lengths = np.concatenate([lengths, np.ones(batch - len(part), np.int64)])
        intents, tags = (np.asarray(scores) for scores in answer(ids, lengths))
        for at, row in enumerate(part):
            command = commands[row]
            offsets = encodings[row].offsets[: ids.shape[1]]
            slots = decode(tags[at], offsets, command.text, names.tags)
            right += names.labels[int(intents[at].argmax())] == command.intent
            wanted.append(command.spans)
            found.append([Span(slot["type"], slot["start"], slot["end"]) for slot in slots])
    return right / len(commands), score(wanted, found).f1
