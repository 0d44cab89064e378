"""Base by each method alone, and stacked: what it costs in accuracy, what it saves in parameters, size and time.

All of it starts from the encoder of an entry, in floats. What is trained again is trained for as many epochs as the row
`train on`, which removes nothing: what that gains is gained by training, not by the method.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.corpus import Task
from models.lessons import Told
from models.methods import fuse, prune, qat, quantise, share, sparse, static
from models.methods.row import Row
from models.methods.timing import VOCABULARY, measured
from models.minilm.export import export
from models.minilm.network import Encoder, Linear, Network, parameters
from models.minilm.recipe import Recipe
from models.study.rows import File, Study, accuracy, again, encoded, name_of, timed

RECIPE = Recipe(epochs=2, batch=64, rate=1e-4, head_rate=2e-4, averaging=0.98, smoothing=0.05)
"""Getting back what a method cost: short, for base was fine-tuned long enough."""

LIGHT = dataclasses.replace(
    RECIPE, epochs=5, rate=3e-4, head_rate=1e-3, averaging=0.99, alpha=0.9, temperature=2.0, variants=1
)
"""Half of the layers gone is more to get back."""

CALIBRATION = 300
"""Sentences of the training part that static ranges are measured on."""

SPARSE = (32, 16, 8)
"""Positions attended to."""

LONG = 64
"""Tokens of the sentence that sparse attention is timed with."""


def rows(study: Study, told: Told | None, folder: Path) -> list[Row]:
    """The rows of the study, the unchanged encoder first; files are written to `folder`. told: what a teacher says to
    the training part and its rebuilt sentences; None: nobody does.

    Raises ValueError when the validation part is empty.
    """
    whole = study.trained
    quantised = _quantised(study, whole, folder)
    files = [
        *quantised,
        *_trained_on(study, whole, folder),
        *_pruned(study, whole, folder),
        *_shared(study, whole, folder),
        *_light(study, whole, told, folder),
    ]
    return timed(files, vocabulary=_ids(whole.encoder))


def sparse_rows(study: Study, head: Linear, task: Task, folder: Path) -> list[Row]:
    """Sparse attention where k matters: the encoder under `head`, on the sentences of `task`, the long ones apart.
    p50s are of LONG tokens."""
    encoder, heads = study.begin.encoder, {"logits": head}
    longest = int(encoder.positions.shape[0])
    tokens = min(LONG, longest)
    ids = encoded(study.begin.tokenizer, task, longest)
    long = [at for at, row in enumerate(ids) if len(row) > max(SPARSE)]
    long_task = dataclasses.replace(task, valid=[task.valid[at] for at in long])

    def measured_on(path: Path) -> dict[str, float]:
        found = accuracy(path, ids, task)
        if long:
            found[f"{len(long)} of over {max(SPARSE)} tokens"] = accuracy(
                path, [ids[at] for at in long], long_task
            )[name_of(long_task)]
        return found

    dense = export(encoder, heads, folder / "dense.onnx")
    count = parameters((encoder, heads))
    size: dict[str, Any] = {"tokens": tokens, "vocabulary": _ids(encoder)}
    files = [File(dense, measured(dense, "unchanged", f"head of {task.name}", parameters=count, **size))]
    for top_k in SPARSE:
        path = folder / f"sparse-{top_k}.onnx"
        files.append(File(path, sparse.row(encoder, heads, path, top_k=top_k, **size)))
    told = [one._replace(row=dataclasses.replace(one.row, accuracy=measured_on(one.path))) for one in files]
    return timed(told, tokens, _ids(encoder))


def _quantised(study: Study, whole: Network, folder: Path) -> list[File]:
    fp32 = _export(whole, folder / "fp32.onnx")
    kinds = dict(quantise.KINDS) | dict(static.kinds(_calibration(study)))
    del kinds["int8-lstm"]  # of another kind of network
    found = quantise.ablate(fp32, kinds, _valid(study), folder, parameters=parameters(whole))
    return [File(fp32 if row.setting == "fp32" else folder / f"{row.setting}.onnx", row) for row in found]


def _trained_on(study: Study, whole: Network, folder: Path) -> list[File]:
    """The control, and training with the rounding."""
    longer: Network = again(study, "train on", whole, RECIPE)
    control = _export(longer, folder / "longer.onnx")
    begin = qat.begin(whole, _calibration(study))
    trained = again(study, "qat", begin, RECIPE, network=qat.network(RECIPE, begin))
    aware = qat.write(trained, {"logits": trained.network.head}, folder / "qat.onnx")
    count = parameters(whole)
    longer_static = static.quantise(
        control, folder / "longer-static.onnx", static.calibrate(control, _calibration(study), static.MINMAX)
    )
    return [
        _file(study, control, "train on", f"{RECIPE.epochs} epochs, nothing removed", count),
        _file(study, longer_static, "quantise", "static-asymmetric-minmax", count, ("train on",)),
        _file(study, aware, "qat", "INT8 products and tables, minmax averages", count),
    ]


def _pruned(study: Study, whole: Network, folder: Path) -> list[File]:
    encoder = whole.encoder
    heads, units, layers = _kept(whole)
    kinds: dict[str, dict[str, Any]] = {
        "heads": {"heads": heads},
        "units": {"units": units},
        "layers": {"layers": layers},
        "all": {"heads": heads, "units": units, "layers": layers},
    }
    files = []
    for what, kept in kinds.items():
        less = whole._replace(encoder=prune.prune(encoder, **kept))
        for state, network in (
            ("as cut", less),
            ("recovered", again(study, f"prune {what}", less, RECIPE)),
        ):
            path = folder / f"pruned-{what}-{state.replace(' ', '-')}.onnx"
            row = prune.row(network.encoder, {"logits": network.head}, path, vocabulary=_ids(network.encoder))
            files.append(File(path, dataclasses.replace(row, setting=f"{row.setting}, {state}")))
    return [_with_accuracy(study, one) for one in files]


def _shared(study: Study, whole: Network, folder: Path) -> list[File]:
    """Sharing alone; then with what the article does besides: sparse attention and fusion."""
    places = list(range(len(whole.encoder.layers)))
    groups = [tuple(places[at : at + 2]) for at in range(0, len(places), 2)]
    shared = whole._replace(encoder=share.share(whole.encoder, groups))
    packed, order = share.pack(shared.encoder)

    def runs(trained: Network) -> Network:
        return trained._replace(encoder=share.unpack(trained.encoder, order))

    recovered = runs(again(study, "share", shared._replace(encoder=packed), RECIPE, runs=runs))
    files = []
    for state, network in (("as joined", shared), ("recovered", recovered)):
        path = folder / f"shared-{state.replace(' ', '-')}.onnx"
        row = share.row(network.encoder, {"logits": network.head}, path, vocabulary=_ids(network.encoder))
        files.append(File(path, dataclasses.replace(row, setting=f"{row.setting}, {state}")))
    alone = folder / "fused.onnx"
    files.append(
        File(alone, fuse.row(whole.encoder, {"logits": whole.head}, alone, vocabulary=_ids(whole.encoder)))
    )
    all_three = folder / "shared-sparse-fused.onnx"
    row = fuse.row(
        recovered.encoder,
        {"logits": recovered.head},
        all_three,
        top_k=max(SPARSE),
        stacked=("share", "sparse"),
        vocabulary=_ids(recovered.encoder),
    )
    files.append(File(all_three, row))
    return [_with_accuracy(study, one) for one in files]


def _light(study: Study, whole: Network, told: Told | None, folder: Path) -> list[File]:
    """Pruned, taught and quantised: what a mini is, on one set."""
    if told is None:
        return []
    heads, units, layers = _kept(whole)
    less = whole._replace(encoder=prune.prune(whole.encoder, heads=heads, units=units, layers=layers))
    taught: Network = again(study, "light", less, LIGHT, told=told)
    fp32 = _export(taught, folder / "light.onnx")
    setting = f"T={LIGHT.temperature:g}, alpha {LIGHT.alpha:g}, rebuilt sentences"
    files = [_file(study, fp32, "distil", setting, parameters(taught), ("prune",))]
    for name in ("int8", "int4"):
        path = quantise.KINDS[name](fp32, folder / f"light-{name}.onnx")
        files.append(_file(study, path, "quantise", name, parameters(taught), ("prune", "distil")))
    return files


def _ids(encoder: Encoder) -> int:
    """Ids that speed is measured with are below it."""
    return min(VOCABULARY, int(encoder.tokens.shape[0]))


def _kept(whole: Network) -> tuple[int, int, tuple[int, ...]]:
    """Two thirds of heads and units, and every other layer: what mini keeps of base."""
    layer = whole.encoder.layers[0]
    heads, units = int(layer.query.weight.shape[1]), int(layer.up.weight.shape[1])
    return max(1, heads * 2 // 3), max(1, units * 2 // 3), tuple(range(0, len(whole.encoder.layers), 2))


def _export(network: Network, path: Path) -> Path:
    return export(network.encoder, {"logits": network.head}, path)


def _file(
    study: Study, path: Path, method: str, setting: str, count: int, stacked: Sequence[str] = ()
) -> File:
    return _with_accuracy(
        study,
        File(
            path,
            measured(
                path, method, setting, parameters=count, stacked=stacked, vocabulary=_ids(study.begin.encoder)
            ),
        ),
    )


def _with_accuracy(study: Study, file: File) -> File:
    found = accuracy(file.path, _rows(study), study.task)
    return file._replace(row=dataclasses.replace(file.row, accuracy=found))


def _rows(study: Study) -> list[list[int]]:
    return encoded(study.begin.tokenizer, study.task, int(study.begin.encoder.positions.shape[0]))


def _valid(study: Study) -> quantise.Valid:
    return quantise.Valid(name_of(study.task), _rows(study), study.task.valid, study.task.labels)


def _calibration(study: Study) -> list[list[int]]:
    """Some sentences of the training part, from all over it."""
    texts = [item.text for item in study.task.train]
    chosen = np.random.default_rng(study.seed).permutation(len(texts))[:CALIBRATION]
    longest = int(study.begin.encoder.positions.shape[0])
    return [
        encoding.ids[:longest]
        for encoding in study.begin.tokenizer.encode_batch([texts[at] for at in chosen])
    ]
