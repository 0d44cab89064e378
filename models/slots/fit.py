"""Joint training of both heads; every epoch is kept to resume from, as `models.fit` keeps those of the intents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer

from models.batches import in_order
from models.fit import Progress, Steps, Trained, Tree, run
from models.lessons import UNKNOWN_ID
from models.slots.annotations import Command, score
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
    answer = jax.jit(lambda trained, ids, lengths: parser.scores(trained, ids, lengths, None))

    def of_batch(trained: Tree, key: Any, batch: Batch) -> Any:
        return loss(parser.scores(trained, batch.ids, batch.lengths, key), batch, course)

    def found(average: Tree) -> dict[str, float]:
        told = measured(partial(answer, average), valid, names, tokenizer, parser.sizes)
        return dict(zip(("intent", "slots"), told, strict=True))

    def epoch(random: Random) -> Iterable[Batch]:
        return lessons.epoch(tokenizer, course.batch, random)

    total = course.epochs * (len(lessons) // course.batch)
    steps = Steps(of_batch, parser.optimiser(total), total, course.averaging)
    return run(
        parser.trained, steps, epoch, found, ("intent", "slots"), folder, report,
        seed=course.seed, epochs=course.epochs,
    )  # fmt: skip


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
    right, wanted, found = 0, [], []
    for part, ids, lengths in in_order(rows, sizes, batch):
        intents, tags = (np.asarray(scores) for scores in answer(ids, lengths))
        for at, row in enumerate(part):
            command = commands[row]
            offsets = encodings[row].offsets[: ids.shape[1]]
            right += names.labels[int(intents[at].argmax())] == command.intent
            wanted.append(command.spans)
            found.append(decode(tags[at], offsets, command.text, names.tags))
    return right / len(commands), score(wanted, found).f1
