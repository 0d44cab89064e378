"""Several intent sets at once: one row of classes, a slice of it for each set.

A batch may hold sentences of several sets; what a sentence is scored on is the slice of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray

from models.intents.utterances import Utterance, read_utterances

HELD_OUT = 10
"""One sentence in so many is held out for validation, of each intent, where a set has no validation part."""


@dataclass(frozen=True)
class Task:
    """One set of labelled sentences. `outside` are sentences that belong to none of its intents, by part."""

    name: str
    train: Sequence[Utterance]
    valid: Sequence[Utterance]
    test: Sequence[Utterance]
    outside: Mapping[str, Sequence[Utterance]]

    @property
    def labels(self) -> list[str]:
        return sorted({item.intent for item in self.train})


def read_sentences(path: Path) -> list[str]:
    """The sentences of a text file, one a line; empty lines are passed over. Raises OSError, or ValueError for a file
    that is no UTF-8 or holds none."""
    try:
        found = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not UTF-8: {error}") from None
    sentences = [line for line in found if line]
    if not sentences:
        raise ValueError(f"{path}: holds no sentence; write one a line")
    return sentences


def read_task(folder: Path) -> Task:
    """Read `train.tsv`, `test.tsv` and, where they are there, `valid.tsv` (or `val.tsv`) and `oos_*.tsv`.

    Without a validation part one is held out of the training part, the same at every call. Raises OSError or
    ValueError naming the file and line.
    """
    train, test = read_utterances(folder / "train.tsv"), read_utterances(folder / "test.tsv")
    for name in ("valid.tsv", "val.tsv"):
        if (folder / name).exists():
            valid = read_utterances(folder / name)
            break
    else:
        train, valid = hold_out(train)
    outside = {
        part: read_utterances(folder / f"oos_{name}.tsv")
        for part, name in (("train", "train"), ("valid", "val"), ("test", "test"))
        if (folder / f"oos_{name}.tsv").exists()
    }
    known = {item.intent for item in train}
    for part, items in (("valid", valid), ("test", test)):
        if strange := sorted({item.intent for item in items} - known):
            raise ValueError(
                f"{folder}: {part} has the intent {strange[0]!r}, which no sentence of train.tsv has; "
                "add some there, or leave it out"
            )
    if len(known) < 2:
        raise ValueError(f"{folder / 'train.tsv'}: one intent only; there is nothing to tell apart")
    return Task(folder.name, train, valid, test, outside)


def hold_out(items: Sequence[Utterance], seed: int = 0) -> tuple[list[Utterance], list[Utterance]]:
    """(training, validation): one sentence in HELD_OUT of each intent is held out."""
    by_intent: dict[str, list[Utterance]] = {}
    for item in items:
        by_intent.setdefault(item.intent, []).append(item)
    random = Random(seed)
    held: set[int] = set()
    for same in by_intent.values():
        held |= {id(item) for item in random.sample(same, len(same) // HELD_OUT)}
    return [i for i in items if id(i) not in held], [i for i in items if id(i) in held]


class Classes:
    """The classes of several tasks side by side. slices: each task's part of the row."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.names: list[str] = []
        self.slices: dict[str, slice] = {}
        for task in tasks:
            first = len(self.names)
            self.names += task.labels
            self.slices[task.name] = slice(first, len(self.names))
        self._index = {
            task.name: {label: self.slices[task.name].start + n for n, label in enumerate(task.labels)}
            for task in tasks
        }

    def targets(self, task: Task, items: Sequence[Utterance]) -> NDArray[np.int64]:
        """The class of each item in the common row."""
        return np.array([self._index[task.name][item.intent] for item in items], np.int64)
