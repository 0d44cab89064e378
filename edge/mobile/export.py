"""One catalog entry into everything that a phone may want of it, each file checked as far as it can be here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from tokenizers import Tokenizer

from edge.mobile import (
    coreml,
    encoder_onnx,
    fixed,
    manifest,
    mil,
    ort_format,
    recurrent_onnx,
    usability,
    weights,
)
from edge.mobile.interpreter import Package
from edge.mobile.sentences import (
    Answers,
    Difference,
    Sentences,
    answers,
    difference,
    padded,
    tokenised,
)
from edge.mobile.weights import Transformer, Weights
from models.entries import Artefact, Entry, resolve, verify

FORMATS = ("onnx", "ort", "coreml")

SAME = 1e-5
"""Largest difference of two graphs of the same arithmetic."""

FEWEST_ALIKE = 0.9
"""Share of sentences at least that a float graph must answer as its quantised entry does; less is another model."""

INTERPRETED = 40
"""Sentences at most that a Core ML package is evaluated on: NumPy takes a fifth of a second for one of MiniLM's."""

QUANTISES_AS_IT_RUNS = {"DynamicQuantizeLinear", "DynamicQuantizeLSTM", "QuantizeLinear", "MatMulNBits"}
"""Operators that round what they are given, so that padding, or a float graph, moves the answers."""

Report = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """What is exported: an entry's files, so many tokens, and the sentences that the exports are checked on."""

    entry: Entry
    artefact: Artefact
    tokens: int
    sentences: Sentences
    formats: Collection[str]


def job(entry: Entry, tokens: int, texts: list[str], formats: Collection[str] = FORMATS) -> Job:
    """Look at the entry before anything is written. Raises models.entries.EntryError when it is not what its card says,
    ValueError when it takes fewer tokens."""
    artefact = resolve(entry)
    verify(artefact)
    if tokens > artefact.max_tokens:
        raise ValueError(
            f"--tokens {tokens} is more than the {artefact.max_tokens} that {entry.model}/{entry.tier} takes"
        )
    tokenizer = Tokenizer.from_file(str(artefact.tokenizer))
    return Job(entry, artefact, tokens, tokenised(tokenizer, texts, tokens), formats)


def export(work: Job, out: Path, report: Report = lambda _: None) -> dict[str, Any]:
    """Write the export to the folder `out` and return its manifest. The folder appears as a whole or not at all.

    Raises ValueError when `out` holds something else, when the entry cannot be written in a format, and when an export
    does not answer as it must; ModuleNotFoundError when a package is missing.
    """
    if out.exists() and not (out / manifest.NAME).exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is there already and is no export of edge.mobile; name a new folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
        made = Path(scratch) / "new"
        made.mkdir()
        told = _write(work, made, report)
        if out.exists():
            out.rename(Path(scratch) / "old")
        made.rename(out)
    return told


def _write(work: Job, out: Path, report: Report) -> dict[str, Any]:
    # A phone needs these two whatever the format: what turns text into ids, and the labels of the logits.
    shutil.copy(work.artefact.tokenizer, out / "tokenizer.json")
    (out / "labels.json").write_text(
        json.dumps(list(work.artefact.labels), ensure_ascii=False, indent=1) + "\n"
    )
    report("the entry's own answers")
    source = _Source.of(work)
    formats: dict[str, Any] = {}
    network, left_out = _network(work)
    if "onnx" in work.formats:
        formats |= _onnx(work, source, network, out / "onnx", report)
    if "ort" in work.formats:
        formats |= _ort(work, source, out, report)
    if "coreml" in work.formats and network is not None:
        formats |= _coreml(work, network, out / "coreml", report)
    told = manifest.of(work, source.padding, formats, left_out, out)
    (out / manifest.NAME).write_text(json.dumps(told, ensure_ascii=False, indent=1) + "\n")
    return told


@dataclass(frozen=True)
class _Source:
    """The entry's answers to the sentences, alone and padded; rounds: whether it rounds as it runs."""

    alone: Answers
    padded: Answers
    rounds: bool

    @classmethod
    def of(cls, work: Job) -> _Source:
        model, rows = work.artefact.model, work.sentences.rows
        ops = {node.op_type for node in onnx.load(str(model)).graph.node}
        alone, together = answers(model, rows, None), answers(model, rows, work.tokens)
        return cls(alone, together, bool(ops & QUANTISES_AS_IT_RUNS))

    @property
    def padding(self) -> Difference:
        return difference(self.padded, self.alone)


def _network(work: Job) -> tuple[Weights | None, dict[str, str]]:
    """The weights, where a format needs them. What a network of another kind cannot be had in is told instead, unless
    it was asked for by name: then it is an error."""
    if not {"onnx", "coreml"} & set(work.formats):
        return None, {}
    try:
        return weights.read(work.artefact.model.parent), {}
    except ValueError as error:
        if "coreml" in work.formats:
            raise
        return None, {"onnx/float.onnx": str(error)}


def _onnx(work: Job, source: _Source, network: Weights | None, out: Path, report: Report) -> dict[str, Any]:
    out.mkdir()
    report("onnx: the entry's graph of a fixed shape, and the float graph")
    own = fixed.write(work.artefact.model, work.tokens, out / "fixed.onnx")
    same = within(difference(answers(own, work.sentences.rows, work.tokens), source.padded), SAME, own)
    formats = {
        "onnx/fixed.onnx": {**manifest.graph(own), "checked": {"against_entry_padded": same.described()}}
    }
    if network is not None:
        path = write_float(network, work.tokens, out / "float.onnx")
        formats["onnx/float.onnx"] = {**manifest.graph(path), "checked": _float(work, source, network, path)}
    for name, told in formats.items():
        report(f"{name}: ONNX Runtime's usability check")
        path = out / Path(name).name
        text = usability.check(path)
        path.with_suffix(".usability.txt").write_text(text)
        told["usability"] = usability.summary(text)
        path.with_suffix(".usability.json").write_text(json.dumps(told["usability"], indent=1) + "\n")
    return formats


def _float(work: Job, source: _Source, network: Weights, path: Path) -> dict[str, Any]:
    """The float graph is the entry itself where that rounds nothing; where it does, a float graph of the same weights
    that training's own exporter writes is what it must equal, and the entry what it must be like."""
    ours = answers(path, work.sentences.rows, work.tokens)
    against_entry = alike(difference(ours, source.alone), path)
    checked = {"against_entry": against_entry.described()}
    if not source.rounds:
        within(against_entry, SAME, path)
    elif isinstance(network, Transformer):
        with TemporaryDirectory() as scratch:
            plain = answers(write_plain(network, Path(scratch)), work.sentences.rows, None)
        checked["against_dequantised"] = within(difference(ours, plain), SAME, path).described()
    return checked


def write_float(network: Weights, tokens: int, path: Path) -> Path:
    """The network as a float ONNX graph of a fixed shape, see recurrent_onnx and encoder_onnx."""
    if isinstance(network, Transformer):
        return encoder_onnx.write(network, tokens, path)
    return recurrent_onnx.write(network, tokens, path)


def write_plain(network: Transformer, folder: Path) -> Path:
    from models.minilm.export import export as write  # noqa: PLC0415 (JAX is slow to import, and may be missing)
    from models.minilm.network import Linear  # noqa: PLC0415

    heads = {name: Linear(*head) for name, head in network.heads.items()}
    return write(network.encoder, heads, folder / "plain.onnx")


def _ort(work: Job, source: _Source, out: Path, report: Report) -> dict[str, Any]:
    """The entry's graph for the CPU, of any length, and the float graph for a provider where there is one."""
    (out / "ort").mkdir()
    report("ort: ONNX Runtime's own format")
    rows = work.sentences.rows
    cpu = ort_format.write(work.artefact.model, out / "ort/model.ort", optimised=True)
    same = within(difference(answers(cpu, rows, None), source.alone), SAME, cpu)
    formats = {"ort/model.ort": {"checked": {"against_entry": same.described()}}}
    before = out / "onnx/float.onnx"
    if before.exists():
        after = ort_format.write(before, out / "ort/float.ort", optimised=False)
        theirs = answers(before, rows, work.tokens)
        same = within(difference(answers(after, rows, work.tokens), theirs), SAME, after)
        formats["ort/float.ort"] = {"checked": {"against_float_onnx": same.described()}}
    return formats


def _coreml(work: Job, network: Weights, out: Path, report: Report) -> dict[str, Any]:
    out.mkdir()
    report("coreml: packages of FP16 and INT8")
    packages = {kind: out / f"{kind}.mlpackage" for kind in ("fp16", "int8")}
    coreml.write(network, work.tokens, packages["fp16"], packages["int8"])
    rows = work.sentences.rows[:INTERPRETED]
    with TemporaryDirectory() as scratch:
        plain = answers(write_float(network, work.tokens, Path(scratch) / "float.onnx"), rows, work.tokens)
    renamed = [{mil.name_of(name): value for name, value in answer.items()} for answer in plain]
    formats = {}
    for path in packages.values():
        report(f"coreml/{path.name}: read back and interpreted")
        package = Package(path)
        ours = [package.run(**padded(row, work.tokens, np.int32)) for row in rows]
        found = alike(difference(ours, renamed), path)
        formats[f"coreml/{path.name}"] = {
            **coreml.interface(path),
            "checked": {"interpreted_against_float_onnx": found.described()},
        }
    return formats


def alike(found: Difference, path: Path) -> Difference:
    """`found`, if the first head answers nearly as before. Raises ValueError naming the file when it does not."""
    first = next(iter(found.flipped), None)
    if first is not None and found.flipped[first] > (1 - FEWEST_ALIKE) * found.sentences:
        raise ValueError(
            f"{path.name} answers {found.flipped[first]} of {found.sentences} sentences with another label than the "
            "entry: it is not the same network; only --formats ort can be written from this entry"
        )
    return found


def within(found: Difference, most: float, path: Path) -> Difference:
    """`found`, if no output moved by more than `most`. Raises ValueError naming the file when one did."""
    if found.largest > most:
        raise ValueError(
            f"{path.name} moves an output by {found.largest:.2g}, more than {most}: it is not the same network; only "
            "--formats ort can be written from this entry"
        )
    return found


def described(told: Mapping[str, Any]) -> str:
    """An export in a few lines, for whoever ran the command."""
    lines = []
    padding = told["padding_of_entry"]
    if padding["largest_difference"] > SAME:
        lines.append(
            f"padding to {told['tokens']} tokens alone moves the entry's outputs by {padding['largest_difference']:g}: "
            f"{_flips(padding['labels_flipped'])} of {padding['sentences']} labels differ"
        )
    for name, form in told["formats"].items():
        size = sum(
            file["bytes"]
            for path, file in told["files"].items()
            if path == name or path.startswith(f"{name}/")
        )
        checks = "; ".join(
            f"{what.replace('_', ' ')}: {check['largest_difference']:g} at most, "
            f"{_flips(check['labels_flipped'])} of {check['sentences']} labels differ"
            for what, check in form["checked"].items()
        )
        lines.append(f"{name}  {size / 1e6:.2f} MB  {checks}")
        lines += [
            f"    {provider}: {found['ready']} of {found['nodes']} nodes in {found['partitions']} parts, "
            f"{found['verdict']}"
            for provider, found in form.get("usability", {}).items()
        ]
    return "\n".join(lines)


def _flips(flipped: Mapping[str, int]) -> str:
    """The first head's number, and those of the others where there are some."""
    first, *others = [str(number) for number in flipped.values()] or ["none"]
    return f"{first} (other heads {', '.join(others)})" if others else first
