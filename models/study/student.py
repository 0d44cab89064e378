"""Tiny by each method: what a teacher, its temperature and its rebuilt sentences give it, what rounding costs it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from models.entries import Entry, resolve
from models.intents import network as bilstm
from models.intents import student
from models.intents.recipe import Recipe
from models.intents.student import Taught
from models.lessons import Told
from models.methods import prune, quantise
from models.methods.row import Row
from models.methods.timing import VOCABULARY, measured
from models.minilm.network import parameters
from models.study.rows import File, Study, accuracy, encoded, name_of, timed

ARTICLE = ((4.0, 0.3), (6.0, 0.7))
"""Temperature and alpha that the article recommends."""


def rows(study: Study, recipe: Recipe, teacher: Entry, told: Told | None, folder: Path) -> list[Row]:
    """The rows of the study, the student that learnt from labels alone first; files are written to `folder`.

    recipe: of the student; told: what the teacher says to the training part and to its rebuilt sentences. Raises
    ValueError where it does not know the set.
    """
    if told is None:
        raise ValueError(
            f"{teacher.folder} does not know the intents of {study.task.name}; name an entry that does"
        )
    plain = dataclasses.replace(
        told, rebuilt=[[] for _ in told.rebuilt], soft=told.soft[:, :0], digest=told.digest + "-"
    )
    own = (recipe.temperature, recipe.alpha)
    recipe = dataclasses.replace(recipe, seed=study.seed, epochs=study.epochs or recipe.epochs)
    alone = _train(study, "labels alone", recipe, None)
    files = [
        _file(study, alone, "unchanged", "BiLSTM, labels alone", folder / "labels.onnx"),
        _teacher(study, teacher),
    ]
    for temperature, alpha in (*ARTICLE, own):
        setting = f"T={temperature:g}, alpha {alpha:g}"
        like = dataclasses.replace(recipe, temperature=temperature, alpha=alpha, variants=0)
        files.append(
            _file(
                study,
                _train(study, setting, like, plain),
                "distil",
                setting,
                folder / f"distil-{len(files)}.onnx",
            )
        )
    best = _train(study, "rebuilt sentences", recipe, told)
    setting = f"T={own[0]:g}, alpha {own[1]:g}, {recipe.variants} rebuilt sentences for each"
    fp32 = folder / "taught.onnx"
    files.append(_file(study, best, "distil", setting, fp32))
    files.append(_narrowed(study, recipe, best, told, folder / "narrowed.onnx"))
    kinds = {name: quantise.KINDS[name] for name in ("weights-int8", "int8-table", "int8-lstm")}
    valid = quantise.Valid(name_of(study.task), _rows(study, best), study.task.valid, study.task.labels)
    found = quantise.ablate(
        fp32, kinds, valid, folder, parameters=parameters(best.network), stacked=("distil",)
    )
    files += [File(folder / f"{row.setting}.onnx", row) for row in found]
    # The one without rebuilt sentences has fewer pieces.
    return timed(files, vocabulary=min(_ids(alone), _ids(best)))


def _train(study: Study, what: str, recipe: Recipe, told: Told | None) -> Taught:
    return student.train([study.task], study.begin, told, recipe, study.cache, study.saying(f"tiny, {what}"))


def _narrowed(study: Study, recipe: Recipe, best: Taught, told: Told, path: Path) -> File:
    """Fewer channels in each direction, and a third of the epochs to get over it."""
    kept = best.network.forward.recurrent.shape[1] * 3 // 4
    less = prune.prune_lstm(best.network, hidden=kept)
    shorter = dataclasses.replace(recipe, epochs=max(1, recipe.epochs // 3), rate=recipe.rate / 3)
    again = student.go_on(
        [study.task], less, best.tokenizer, told, shorter, study.cache, study.saying("tiny, pruned"), "narrowed", kept
    )  # fmt: skip
    row = prune.lstm_row(again.network, _head(study), path, stacked=("distil",), vocabulary=_ids(again))
    found = accuracy(path, _rows(study, again), study.task)
    return File(path, dataclasses.replace(row, setting=f"{row.setting}, recovered", accuracy=found))


def _teacher(study: Study, teacher: Entry) -> File:
    artefact = resolve(teacher)
    ids = encoded(study.begin.tokenizer, study.task, int(teacher.card["max_tokens"]))
    row = measured(
        artefact.model, "teacher", f"{teacher.card['model']}/{teacher.card['tier']}, as it is served",
        parameters=teacher.card.get("structure", {}).get("parameters"),
        accuracy=accuracy(artefact.model, ids, study.task),
        vocabulary=min(VOCABULARY, study.begin.tokenizer.get_vocab_size()),
    )  # fmt: skip
    return File(artefact.model, row)


def _file(study: Study, taught: Taught, method: str, setting: str, path: Path) -> File:
    bilstm.export(taught.network, _head(study), path)
    found = accuracy(path, _rows(study, taught), study.task)
    return File(
        path,
        measured(
            path,
            method,
            setting,
            parameters=parameters(taught.network),
            accuracy=found,
            vocabulary=_ids(taught),
        ),
    )


def _ids(taught: Taught) -> int:
    """Ids that speed is measured with are below it."""
    return min(VOCABULARY, taught.tokenizer.get_vocab_size())


def _head(study: Study) -> dict[str, slice]:
    return {"logits": slice(0, len(study.task.labels))}


def _rows(study: Study, taught: Taught) -> list[list[int]]:
    return encoded(taught.tokenizer, study.task, student.LONGEST)
