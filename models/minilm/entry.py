"""From a fine-tuned encoder to catalog entries: one tier for each variant, everything measured, written down."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models import evaluate, outside
from models.corpus import Classes, Task
from models.entries import read_entry
from models.intents import measure
from models.intents.utterances import Utterance
from models.minilm import quantise
from models.minilm.card import card_for_people
from models.minilm.export import export
from models.minilm.network import Linear, Network, sizes
from models.minilm.recipe import Recipe
from models.minilm.vocabulary import trim

FILES = ("model.onnx", "tokenizer.json")
SECOND_ROUND = 32
"""Sentences that run together where the effect of neighbours is measured."""


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
    network: Network,
    tokenizer: Tokenizer,
    recipe: Recipe,
    model: Path,
    tiers: Mapping[str, str],
    *,
    version: str,
    about: Mapping[str, Any],
    seconds: float,
) -> dict[str, dict[str, Any]]:
    """Write one entry below the folder `model` for each of `tiers`, tier -> variant; returns the cards by tier.

    about: what the card says of source, data and licence. own: further sentences of the first task. Validation parts
    decide the thresholds; each test part is looked at once, here.
    """
    classes = Classes(tasks)
    heads = heads_of(tasks)
    encoder, vocabulary = trim(network.encoder, tokenizer)
    weight, bias = np.asarray(network.head.weight), np.asarray(network.head.bias)
    linear = {
        head.output: Linear(weight[:, classes.slices[head.task.name]], bias[classes.slices[head.task.name]])
        for head in heads
    }
    cards = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = {"fp32": export(encoder, linear, folder / "fp32.onnx")}
        for variant in tiers.values():
            paths[variant] = quantise.KINDS[variant](paths["fp32"], folder / f"{variant}.onnx")
        vocabulary.save(str(folder / "tokenizer.json"), pretty=False)
        sessions = {variant: measure.open_session(path) for variant, path in paths.items()}
        speeds = dict(
            zip(sessions, measure.speeds(list(sessions.values()), vocabulary.get_vocab_size()), strict=True)
        )
        fp32 = {
            head.task.name: round(_answers(sessions["fp32"], vocabulary, head, head.task.test).accuracy, 4)
            for head in heads
        }
        for tier, variant in tiers.items():
            out = folder / model.name / tier
            out.mkdir(parents=True)
            shutil.copyfile(paths[variant], out / "model.onnx")
            shutil.copyfile(folder / "tokenizer.json", out / "tokenizer.json")
            session = sessions[variant]
            told = {head.task.name: _measured(session, vocabulary, head) for head in heads}
            first = told[heads[0].task.name]
            rows = measure.encode(vocabulary, [item.text for item in heads[0].task.valid], recipe.longest)
            together = rows[: 8 * SECOND_ROUND]
            leak = measure.leak(session, together, SECOND_ROUND)
            ours = _answers(session, vocabulary, heads[0], own).accuracy if own else None
            card = {
                "model": model.name,
                "tier": tier,
                "version": version,
                "task": "intent",
                "labels": heads[0].task.labels,
                "max_tokens": recipe.longest,
                "max_batch": quantise.MAX_BATCH[variant],
                "sha256": {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in FILES},
                "variant": variant,
                "accuracy": {
                    "test": first["test"],
                    "valid": first["valid"],
                    "test_fp32": fp32[heads[0].task.name],
                    **({"own_utterances": round(ours, 4)} if ours is not None else {}),
                },
                "heads": {
                    head.task.name: {
                        "output": head.output,
                        "labels": head.task.labels,
                        **told[head.task.name],
                        "test_fp32": fp32[head.task.name],
                    }
                    for head in heads
                },
                "size_mb": round(sum((out / name).stat().st_size for name in FILES) / 1e6, 3),
                "p50_ms": round(speeds[variant][1], 4),
                "fp32_p50_ms": round(speeds["fp32"][1], 4),
                "speeds_ms": {
                    name: {str(batch): round(ms, 4) for batch, ms in of.items()}
                    for name, of in speeds.items()
                    if name in ("fp32", variant)
                },
                "batch_moves_logits": float(f"{leak.logits:.2g}"),
                "batch_flips_labels": leak.flipped,
                "batch_sentences": len(together),
                "encoder": sizes(encoder),
                "training": {**dataclasses.asdict(recipe), "seconds": round(seconds)},
                "machine": f"{platform.machine()}, {os.cpu_count()} cores, 1 thread used",
                **about,
            }
            write_card(out, card)
            # By the command that everybody measures with: in a process of its own, with what serving takes.
            card["rss_mb"] = evaluate.evaluate(read_entry(out), heads[0].task.valid).rss_mb
            write_card(out, card)
            place(out, model / tier)
            cards[tier] = card
    return cards


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


def _answers(
    session: ort.InferenceSession, tokenizer: Tokenizer, head: Head, items: Sequence[Utterance]
) -> Answers:
    """Each sentence alone, as a request that meets no other."""
    index = {label: at for at, label in enumerate(head.task.labels)}
    rows = measure.encode(tokenizer, [item.text for item in items], Recipe.longest)
    logits = [
        session.run([head.output], {"ids": np.array([row], np.int64), "lengths": np.array([len(row)])})[0][0]
        for row in rows
    ]
    return Answers(np.stack(logits), np.array([index.get(item.intent, -1) for item in items], np.int64))


def _measured(session: ort.InferenceSession, tokenizer: Tokenizer, head: Head) -> dict[str, Any]:
    """Accuracy (0..1) on validation and test, sentences of each part, and gates where sentences outside are known."""
    task = head.task
    valid, test = (_answers(session, tokenizer, head, part) for part in (task.valid, task.test))
    told: dict[str, Any] = {
        "valid": round(valid.accuracy, 4),
        "test": round(test.accuracy, 4),
        "sentences": {"train": len(task.train), "valid": len(task.valid), "test": len(task.test)},
    }
    if "test" in task.outside:
        strange = _answers(session, tokenizer, head, task.outside["test"]).logits
        told["out_of_scope"] = {}
        for score in outside.SCORES:
            gate = outside.choose(score, valid.logits, valid.targets)
            done = outside.measure(gate, test.logits, test.targets, strange)
            told["out_of_scope"][score] = {
                "threshold": round(gate.threshold, 4),
                "accuracy_in_scope": round(done.accuracy_gated, 4),
                "recall": round(done.recall, 4),
            }
    return told
