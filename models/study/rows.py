"""What the parts of the study share: files that are timed in turns, and networks that are trained again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import Tokenizer

from models import fit
from models.corpus import Classes, Task
from models.intents import measure
from models.lessons import Lessons, Told
from models.methods.row import Row
from models.methods.timing import p50s
from models.minilm import fit as minilm
from models.minilm.network import Network
from models.minilm.recipe import Recipe
from models.minilm.start import Start

Report = Callable[[str, fit.Progress], None]
"""(what is trained, how far it is)"""


class Study(NamedTuple):
    """What a study is made of. task: the set that all is measured on, by its validation part; begin: an encoder that
    knows it, its tokenizer with it; output: of the head that does; cache: where epochs are kept; epochs: of every
    training, instead of the study's own; 0: those."""

    task: Task
    begin: Start
    output: str
    cache: Path
    seed: int
    epochs: int
    report: Report

    @property
    def trained(self) -> Network:
        """The encoder under the head of the task."""
        return Network(self.begin.encoder, self.begin.heads[self.output])

    def saying(self, what: str) -> Callable[[fit.Progress], None]:
        """Progress of the training named `what`."""
        return lambda now: self.report(what, now)


class File(NamedTuple):
    """A file that was made, and its row."""

    path: Path
    row: Row


def encoded(tokenizer: Tokenizer, task: Task, longest: int) -> list[list[int]]:
    """Token ids of the validation part."""
    return measure.encode(tokenizer, [item.text for item in task.valid], longest)


def accuracy(path: Path, rows: Sequence[Sequence[int]], task: Task) -> dict[str, float]:
    """Share of the validation part that the file answers rightly, each sentence alone."""
    outcome = measure.evaluate(measure.open_session(path), rows, task.valid, task.labels)
    return {name_of(task): outcome.accuracy}


def name_of(task: Task) -> str:
    """The name under which a row tells what it is measured on."""
    return f"{task.name}, validation"


def timed(files: Sequence[File], tokens: int = measure.SPEED_TOKENS, vocabulary: int = 500) -> list[Row]:
    """The rows with p50s that compare: all files took turns, `tokens` random ids below `vocabulary` each."""
    times = p50s([measure.open_session(one.path) for one in files], tokens=tokens, vocabulary=vocabulary)
    return [dataclasses.replace(one.row, p50_ms=ms) for one, ms in zip(files, times, strict=True)]


def again(
    study: Study,
    what: str,
    begin: Any,
    recipe: Recipe,
    *,
    runs: Callable[[Any], Network] = lambda trained: trained,
    told: Told | None = None,
    network: fit.Network | None = None,
) -> Any:
    """Train `begin` on the task and return what comes of it, in the form of `begin`.

    runs: parameters -> the encoder and head that run, where they are not the same; network: what is trained, where it
    is not simply that. Without a teacher, told None, the labels alone are learnt.
    """
    used = recipe if told else dataclasses.replace(recipe, alpha=0.0, variants=0)
    used = dataclasses.replace(used, seed=study.seed, epochs=study.epochs or used.epochs)
    lessons = Lessons(
        [study.task], Classes([study.task]), sizes=minilm.STEP_SIZES, told=told, variants=used.variants
    )

    def scores(trained: Any, ids: Any, lengths: Any, key: Any) -> Any:
        return usual.scores(runs(trained), ids, lengths, key)

    usual = minilm.network(used, begin)
    folder = study.cache / fit.name([study.task], "study", what, used, study.begin.name, told and told.digest)
    return fit.fit(
        [study.task], lessons, network or fit.Network(begin, scores, usual.optimiser, usual.sizes),
        study.begin.tokenizer, minilm.course(used), folder, study.saying(what),
    ).trained  # fmt: skip
