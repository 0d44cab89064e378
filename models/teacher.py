"""A catalog entry as a teacher: what it answers to sentences, kept between runs.

Distillation asks a teacher for its logits, and a teacher is any entry of the catalog: nothing but ONNX Runtime is
needed to hear one, and a student can be made where nobody kept the weights that the teacher was trained with.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models import transfer
from models.corpus import Task
from models.entries import Entry, EntryError, resolve, verify
from models.evaluate import encode
from models.lessons import Told

CHUNK = 512
"""Sentences between two reports."""


class Teacher:
    """Answers with the logits of every head of an entry side by side, in the order of `outputs`."""

    def __init__(self, entry: Entry, outputs: Sequence[str], cache: Path) -> None:
        """cache: folder where answers are kept. Raises EntryError when a file is not what the card says, or an output
        is not there."""
        self._artefact = resolve(entry)
        self.name = f"{entry.model}/{entry.tier}, version {entry.card.get('version', '?')}"
        verify(self._artefact)
        self._outputs = list(outputs)
        self._cache = cache
        options = ort.SessionOptions()
        options.intra_op_num_threads = os.cpu_count() or 1
        options.log_severity_level = 3
        self._session = ort.InferenceSession(
            str(self._artefact.model), options, providers=["CPUExecutionProvider"]
        )
        there = [value.name for value in self._session.get_outputs()]
        if missing := [name for name in outputs if name not in there]:
            raise EntryError(
                f"{self._artefact.model} has no output {missing[0]!r}; it has {', '.join(there)}"
            )

    @property
    def digest(self) -> str:
        """Tells this teacher from every other one."""
        return self._artefact.sha256[self._artefact.model][:16]

    def logits(
        self, texts: Sequence[str], report: Callable[[int, int], None] = lambda done, total: None
    ) -> NDArray[np.float32]:
        """[texts, classes of all outputs], each text alone: INT8 activations would otherwise make an answer depend on
        its neighbours. report: called with texts done and to do."""
        path = self._cache / f"{self._digest(texts)}.npy"
        if path.exists():
            kept: NDArray[np.float32] = np.load(path)
            return kept
        rows, _ = encode(self._artefact, texts)
        answers = []
        for number, row in enumerate(rows):
            feed = {"ids": np.array([row], np.int64), "lengths": np.array([len(row)])}
            answers.append(np.concatenate(self._session.run(self._outputs, feed), axis=1)[0])
            if not (number + 1) % CHUNK:
                report(number + 1, len(rows))
        found = np.stack(answers)
        self._cache.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        with unfinished.open("wb") as file:
            np.save(file, found.astype(np.float32))
        unfinished.replace(path)
        return found

    def _digest(self, texts: Sequence[str]) -> str:
        digest = hashlib.sha256(self._artefact.sha256[self._artefact.model].encode())
        digest.update("\n".join([*self._outputs, *texts]).encode())
        return digest.hexdigest()[:24]


Report = Callable[[int, int], None]


def tell(
    teacher: Teacher,
    tasks: Sequence[Task],
    near: Mapping[str, Sequence[str]],
    variants: int,
    report: Report = lambda done, total: None,
    unlabelled: Sequence[str] = (),
) -> Told:
    """Ask the teacher about every training sentence and about `variants` rebuilt ones of each; its outputs must be
    those of the tasks, in their order. near: see `transfer.neighbours`. unlabelled: sentences that somebody said;
    where there are any, transfer.BESIDE of them stand beside the rebuilt ones of each sentence."""
    texts = [item.text for task in tasks for item in task.train]
    rebuilt = [
        row for task in tasks for row in transfer.pool([item.text for item in task.train], near, variants)
    ]
    if unlabelled:
        rebuilt = transfer.beside(rebuilt, unlabelled)
        variants += transfer.BESIDE
    total = len(texts) * (1 + variants)

    def asked(of: int) -> Report:
        return lambda done, _: report(of * len(texts) + done, total)

    plain = teacher.logits(texts, asked(0))
    soft = [teacher.logits([row[at] for row in rebuilt], asked(at + 1)) for at in range(variants)]
    said = np.stack(soft, axis=1) if soft else np.zeros((len(texts), 0, plain.shape[1]), np.float32)
    heard = hashlib.sha256("\n".join(text for row in rebuilt for text in row).encode()).hexdigest()[:16]
    return Told(plain, rebuilt, said, f"{teacher.digest}/{heard}", teacher.name)


def knows(entry: Entry, tasks: Sequence[Task]) -> list[str] | None:
    """The outputs of the entry that answer with the intents of each task, None when it does not know all of them."""
    heads = entry.card.get("heads", {})
    found = [head["output"] for task in tasks for head in heads.values() if head.get("labels") == task.labels]
    return found if len(found) == len(tasks) else None
