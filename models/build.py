"""From a trained network to catalog entries: one for each tier, every variant measured, everything written down."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models import embedding, evaluate, outside
from models.card import card_for_people
from models.corpus import Classes, Task
from models.entries import read_entry
from models.intents import measure
from models.intents.utterances import Utterance
from models.variants import Variant
from services.common.scope import SCORES

FILES = ("model.onnx", "tokenizer.json")
"""What a card vouches for with a SHA-256 each."""

TOGETHER = 32
"""Sentences that run together where the effect of neighbours is measured."""

WEAKEST = 8
"""Intents that a card names as the weakest of a set."""


class Smaller(NamedTuple):
    """How a variant is made: fp32 file, out -> out; and how many sentences may then run together, 0: any number."""

    make: Callable[[Path, Path], Path]
    max_batch: int = 0


class Made(NamedTuple):
    """What a training made. export: writes the FP32 file with the named parts of the classes as outputs; structure and
    training: what a card tells of both; longest: tokens that are read; before: accuracy of FP32 on the test part (0..1,
    by set) where the floats at hand are no longer those of the training."""

    export: Callable[[Mapping[str, slice], Path], Path]
    tokenizer: Tokenizer
    longest: int
    structure: Mapping[str, Any]
    training: Mapping[str, Any]
    before: Mapping[str, float] = MappingProxyType({})


class Head(NamedTuple):
    """One task's part of the network: the name of its output."""

    task: Task
    output: str


class Answers(NamedTuple):
    """Logits [sentences, classes] of one head, and the class that each sentence should have."""

    logits: NDArray[np.float32]
    targets: NDArray[np.int64]

    @property
    def accuracy(self) -> float:
        return float((self.logits.argmax(axis=1) == self.targets).mean())


def heads_of(tasks: Sequence[Task]) -> list[Head]:
    """The first task's output is `logits`, as every entry of the catalog has it; the others' are `logits.<task>`."""
    return [
        Head(task, "logits" if not number else f"logits.{task.name}") for number, task in enumerate(tasks)
    ]


def build_entries(
    tasks: Sequence[Task],
    own: Sequence[Utterance],
    made: Made,
    variants: Mapping[str, Smaller],
    tiers: Mapping[str, str],
    model: Path,
    *,
    version: str,
    about: Mapping[str, Any],
    targets: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, dict[str, Any]]:
    """Write one entry below the folder `model` for each of `tiers`, tier -> variant; returns the cards by tier.

    about: what the card says of source, data and licence; targets: what it promises, by tier (form:
    models.report.targets). own: further sentences of the first task. Validation parts
    decide the thresholds; each test part is looked at once, here.
    """
    classes, heads = Classes(tasks), heads_of(tasks)
    cards = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fp32 = made.export(
            {head.output: classes.slices[head.task.name] for head in heads}, folder / "fp32.onnx"
        )
        paths = {"fp32": fp32} | {
            what: smaller.make(fp32, folder / f"{what}.onnx") for what, smaller in variants.items()
        }
        made.tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
        sessions = {what: measure.open_session(path) for what, path in paths.items()}
        measured = measure_variants(paths, sessions, made, heads[0])
        before = dict(made.before) or {
            head.task.name: _answers(sessions["fp32"], made, head, head.task.test).accuracy for head in heads
        }
        for tier, variant in tiers.items():
            out = folder / model.name / tier
            out.mkdir(parents=True)
            shutil.copyfile(paths[variant], out / "model.onnx")
            shutil.copyfile(folder / "tokenizer.json", out / "tokenizer.json")
            session = sessions[variant]
            told = {
                head.task.name: _told(session, made, head) | {"test_fp32": round(before[head.task.name], 4)}
                for head in heads
            }
            first = told[heads[0].task.name]
            ours = _answers(session, made, heads[0], own).accuracy if own else None
            card = {
                "model": model.name,
                "tier": tier,
                "version": version,
                "task": "intent",
                "labels": heads[0].task.labels,
                "max_tokens": made.longest,
                "max_batch": variants[variant].max_batch,
                "sha256": {file: hashlib.sha256((out / file).read_bytes()).hexdigest() for file in FILES},
                "variant": variant,
                "accuracy": {
                    **{what: first[what] for what in ("test", "valid", "test_fp32")},
                    **({"own_utterances": round(ours, 4)} if ours is not None else {}),
                },
                "heads": told,
                "size_mb": round(sum((out / file).stat().st_size for file in FILES) / 1e6, 3),
                "p50_ms": round(measured[variant].p50_ms[1], 4),
                "fp32_p50_ms": round(measured["fp32"].p50_ms[1], 4),
                "variants": {what: one.described(measured["fp32"]) for what, one in measured.items()},
                "structure": dict(made.structure),
                "training": dict(made.training),
                "machine": f"{platform.machine()}, {os.cpu_count()} cores, 1 thread used",
                **({"targets": dict(targets[tier])} if targets and tier in targets else {}),
                **about,
            }
            write_card(out, card)
            # By the command that everybody measures with: in a process of its own, with what serving takes.
            card["rss_mb"] = evaluate.evaluate(read_entry(out), heads[0].task.valid).rss_mb
            write_card(out, card)
            place(out, model / tier)
            cards[tier] = card
    return cards


def measure_variants(
    paths: Mapping[str, Path], sessions: Mapping[str, ort.InferenceSession], made: Made, head: Head
) -> dict[str, Variant]:
    """Every variant: size, accuracy on the validation part of the first set, speed, independence of its neighbours."""
    speeds = measure.speeds(list(sessions.values()), made.tokenizer.get_vocab_size())
    rows = measure.encode(made.tokenizer, [item.text for item in head.task.valid], made.longest)
    together = rows[: 8 * TOGETHER]
    found = {}
    for (what, session), speed in zip(sessions.items(), speeds, strict=True):
        valid = _answers(session, made, head, head.task.valid).accuracy
        leak = measure.leak(session, together, TOGETHER)
        size_mb = paths[what].stat().st_size / 1e6
        found[what] = Variant(what, size_mb, valid, speed, leak.logits, leak.flipped, len(together))
    return found


def place(made: Path, entry: Path) -> None:
    """Put a finished entry where it belongs; whoever looks sees the old one, for a moment none, or the new one."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    beside = entry.with_name(f".{entry.name}.{os.getpid()}")
    shutil.copytree(made, beside / "new")
    if entry.exists():
        entry.rename(beside / "old")
    (beside / "new").rename(entry)
    shutil.rmtree(beside)


def write_card(out: Path, card: dict[str, Any]) -> None:
    """The card for people, then the one for programs."""
    (out / "README.md").write_text(card_for_people(card))
    # Last: an entry without a card is none, so a service that watches the folder never sees half of one.
    (out / "card.json").write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n")


def _answers(session: ort.InferenceSession, made: Made, head: Head, items: Sequence[Utterance]) -> Answers:
    """Each sentence alone, as a request that meets no other."""
    index = {label: at for at, label in enumerate(head.task.labels)}
    rows = measure.encode(made.tokenizer, [item.text for item in items], made.longest)
    logits = [
        session.run([head.output], {"ids": np.array([row], np.int64), "lengths": np.array([len(row)])})[0][0]
        for row in rows
    ]
    return Answers(np.stack(logits), np.array([index.get(item.intent, -1) for item in items], np.int64))


def _told(session: ort.InferenceSession, made: Made, head: Head) -> dict[str, Any]:
    """Accuracy (0..1) on validation and test, sentences of each part, the weakest intents, gates where sentences
    outside are known, and what the sentence vectors are good for where there are any."""
    task = head.task
    valid, test = (_answers(session, made, head, part) for part in (task.valid, task.test))
    told: dict[str, Any] = {
        "output": head.output,
        "labels": task.labels,
        "valid": round(valid.accuracy, 4),
        "test": round(test.accuracy, 4),
        "sentences": {"train": len(task.train), "valid": len(task.valid), "test": len(task.test)},
        "worst_intents": _weakest(test, task.labels),
    }
    if embedding.EMBEDDING in [output.name for output in session.get_outputs()]:
        rows = [
            measure.encode(made.tokenizer, [item.text for item in part], made.longest)
            for part in (task.train, task.test)
        ]
        told["embedding"] = embedding.measure(session, task.train, rows[0], task.test, rows[1])
    if "test" in task.outside:
        # Where validation has no strange sentences, nothing says which score is best.
        known = {
            part: _answers(session, made, head, items).logits
            for part, items in task.outside.items()
            if part in ("valid", "test")
        }
        told["out_of_scope"] = {}
        for score in SCORES:
            gate = outside.choose(score, valid.logits, valid.targets)
            done = outside.measure(gate, test.logits, test.targets, known["test"])
            told["out_of_scope"][score] = {
                "threshold": round(gate.threshold, 4),
                "accuracy_in_scope": round(done.accuracy_gated, 4),
                "recall": round(done.recall, 4),
            }
            if "valid" in known:
                told["out_of_scope"][score]["recall_valid"] = round(
                    float(gate.rejects(known["valid"]).mean()), 4
                )
        recalls = {
            score: row["recall_valid"] for score, row in told["out_of_scope"].items() if "valid" in known
        }
        told["gate"] = outside.best(recalls) if recalls else next(iter(SCORES))
    return told


def _weakest(test: Answers, labels: Sequence[str]) -> list[dict[str, Any]]:
    """The intents that are recognised least: recall (0..1), sentences, and what they are most often taken for."""
    given = test.logits.argmax(axis=1)
    rows = []
    for at in np.unique(test.targets[test.targets >= 0]):
        answers = given[test.targets == at]
        wrong = answers[answers != at]
        taken = labels[int(np.bincount(wrong).argmax())] if len(wrong) else None
        recall = round(float((answers == at).mean()), 3)
        rows.append(
            {"intent": labels[int(at)], "recall": recall, "sentences": len(answers), "taken_for": taken}
        )
    return sorted(rows, key=lambda row: float(row["recall"]))[:WEAKEST]  # type: ignore[arg-type]
