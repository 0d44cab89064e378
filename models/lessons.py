"""What a student is taught: sentences of several sets, with labels, with what a teacher says to them, or both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.batches import batches, pad
from models.corpus import Classes, Task
from models.intents.utterances import vary

UNLABELLED = -1
UNKNOWN_ID = 1
"""[UNK] in every vocabulary of the catalog."""


class Batch(NamedTuple):
    """ids [batch, steps], lengths, targets (a class of the common row, or UNLABELLED) and task of each [batch],
    and what the teacher says [batch, all classes]; zeros without one."""

    ids: NDArray[np.int64]
    lengths: NDArray[np.int64]
    targets: NDArray[np.int64]
    of_task: NDArray[np.int64]
    soft: NDArray[np.float32]


@dataclass(frozen=True)
class Told:
    """What a teacher says: logits [sentences, all classes] to every training sentence, in the order of the tasks,
    and to each of its rebuilt ones [sentences, variants, all classes]. digest: tells this teacher and
    what it was asked from others; teacher: its name and version, for the card."""

    plain: NDArray[np.float32]
    rebuilt: Sequence[Sequence[str]]
    soft: NDArray[np.float32]
    digest: str = ""
    teacher: str = ""


class Lessons:
    """The training parts of `tasks` as batches, another order and other variations in each epoch. `variants` rebuilt
    sentences of each, out of those that the teacher was asked about, come along in an epoch. sizes: padded lengths."""

    def __init__(
        self,
        tasks: Sequence[Task],
        classes: Classes,
        *,
        sizes: Sequence[int],
        told: Told | None = None,
        variants: int = 0,
    ) -> None:
        self._texts = [item.text for task in tasks for item in task.train]
        self._of_task = np.concatenate(
            [np.full(len(task.train), number, np.int64) for number, task in enumerate(tasks)]
        )
        self._targets = np.concatenate([classes.targets(task, task.train) for task in tasks])
        self._sizes = sizes
        self._told = told
        self._variants = min(variants, told.soft.shape[1]) if told else 0
        self._nothing = np.zeros((len(self._texts), len(classes.names)), np.float32)

    def __len__(self) -> int:
        """Sentences in an epoch."""
        return len(self._texts) * (1 + self._variants)

    def epoch(self, tokenizer: Tokenizer, batch: int, random: Random) -> Iterator[Batch]:
        """Every sentence once, as another person might have typed it, and some of its rebuilt ones."""
        texts = [vary(text, random) for text in self._texts]
        which = [(row, -1) for row in range(len(self._texts))]
        if self._told:
            for row, rebuilt in enumerate(self._told.rebuilt):
                for variant in random.sample(range(len(rebuilt)), self._variants):
                    texts.append(vary(rebuilt[variant], random))
                    which.append((row, variant))
        rows = [encoding.ids or [UNKNOWN_ID] for encoding in tokenizer.encode_batch(texts)]
        for part in batches(rows, batch, random):
            yield self._batch([rows[at] for at in part], [which[at] for at in part])

    def _batch(self, rows: Sequence[Sequence[int]], which: Sequence[tuple[int, int]]) -> Batch:
        ids, lengths = pad(rows, self._sizes)
        at = np.array([row for row, _ in which])
        variant = np.array([number for _, number in which])
        plain = variant < 0
        soft = self._told.plain[at] if self._told else self._nothing[at]
        if self._told and self._variants:
            soft = np.where(plain[:, None], soft, self._told.soft[at, variant])
        return Batch(ids, lengths, np.where(plain, self._targets[at], UNLABELLED), self._of_task[at], soft)
