"""From a trained parser to its catalog entry: variants, every measurement, the cards; placed when it is whole."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models import evaluate
from models.build import FILES, TOGETHER, WEAKEST, Smaller, place
from models.entries import read_entry
from models.intents.measure import open_session
from models.methods.quantise import int8, int8_dynamic_lstm, weights_int8
from models.slots import measure
from models.slots.card import card_for_people
from models.slots.corpus import Commands
from models.slots.measure import Outcome
from models.slots.student import Made
from models.variants import Variant, objections

VARIANTS: Mapping[str, Mapping[str, Smaller]] = {
    "recurrent": {
        "int8-dynamic": Smaller(int8_dynamic_lstm, max_batch=1),
        "weights-int8": Smaller(weights_int8),
    },
    "transformer": {"int8": Smaller(int8, max_batch=1), "weights-int8": Smaller(weights_int8)},
}
"""How the file may be made smaller, by the kind of network, the best first. INT8 activations save a third to a half of
the time, and commands that are then served one by one are still served faster than the way to the model takes."""

LEAST_WANTED = 5
"""Slots of a type in the test part below which its F1 says nothing."""


def build_entry(
    commands: Commands, made: Made, out: Path, *, version: str, about: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the entry OUT, `<model>/<tier>`, and return its card.

    The first of VARIANTS that nothing speaks against on validation is served, or else `fp32`. The test part is
    looked at once, here. about: what the card says of source, data and licence. Raises OSError when it cannot be
    written; there is then the entry that was there before, or none.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        smaller = VARIANTS[made.kind]
        paths = {"fp32": made.export(folder / "fp32.onnx")}
        for variant, how in smaller.items():
            paths[variant] = how.make(paths["fp32"], folder / f"{variant}.onnx")
        variants, valid = _measured(commands, made, paths)
        fp32 = variants["fp32"]
        able = (what for what, how in smaller.items() if not _against(variants[what], fp32, how))
        chosen = variants[next(able, "fp32")]
        whole = folder / out.parent.name / out.name
        whole.mkdir(parents=True)
        shutil.copyfile(paths[chosen.name], whole / "model.onnx")
        made.tokenizer.save(str(whole / "tokenizer.json"), pretty=False)
        test, before = (
            measure.outcome(
                open_session(paths[variant]), made.tokenizer, commands.test, commands.names, made.longest
            )
            for variant in (chosen.name, "fp32")
        )
        card = {
            "model": out.parent.name,
            "tier": out.name,
            "version": version,
            "task": "command",
            "labels": list(commands.names.labels),
            "tags": list(commands.names.tags),
            "max_tokens": made.longest,
            "max_batch": smaller[chosen.name].max_batch if chosen.name in smaller else 0,
            "sha256": {file: hashlib.sha256((whole / file).read_bytes()).hexdigest() for file in FILES},
            "variant": chosen.name,
            "accuracy": _accuracy(test, valid[chosen.name], before),
            "size_mb": round(sum((whole / file).stat().st_size for file in FILES) / 1e6, 3),
            "p50_ms": round(chosen.p50_ms[1], 4),
            "fp32_p50_ms": round(fp32.p50_ms[1], 4),
            "variants": {
                what: one.described(fp32) | {"entity_f1_valid": round(valid[what].entities.f1, 4)}
                for what, one in variants.items()
            },
            "structure": dict(made.structure),
            "training": dict(made.training),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, 1 thread used",
            "worst_types": _weakest_types(test),
            "worst_intents": _weakest_intents(test),
            **about,
        }
        write_card(whole, card)
        # By the command that everybody measures with: in a process of its own, with what serving takes.
        card["rss_mb"] = evaluate.evaluate(read_entry(whole), commands.valid).rss_mb
        write_card(whole, card)
        place(whole, out)
    return card


def write_card(out: Path, card: Mapping[str, Any]) -> None:
    """The card for people, then the one for programs."""
    (out / "README.md").write_text(card_for_people(card))
    # Last: an entry without a card is none, so a service that watches the folder never sees half of one.
    (out / "card.json").write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n")


def _against(variant: Variant, fp32: Variant, how: Smaller) -> list[str]:
    """What speaks against serving it within its bound: who runs alone has no neighbours."""
    alone = how.max_batch == 1
    return objections(dataclasses.replace(variant, leak=0.0, flipped=0) if alone else variant, fp32)


def _measured(
    commands: Commands, made: Made, paths: Mapping[str, Path]
) -> tuple[dict[str, Variant], dict[str, Outcome]]:
    """Every variant, and how it does on the validation part. What a variant may lose is counted on the mean of intent
    accuracy and entity F1, by which the epoch was chosen as well."""
    sessions = {what: open_session(path) for what, path in paths.items()}
    speeds = measure.speeds(list(sessions.values()), made.tokenizer.get_vocab_size())
    texts = [command.text for command in commands.valid][: 8 * TOGETHER]
    sentences = measure.read(made.tokenizer, texts, made.longest)
    variants, outcomes = {}, {}
    for (what, session), speed in zip(sessions.items(), speeds, strict=True):
        done = measure.outcome(session, made.tokenizer, commands.valid, commands.names, made.longest)
        leak = measure.leak(session, sentences, commands.names, TOGETHER)
        both = (done.accuracy + done.entities.f1) / 2
        size_mb = paths[what].stat().st_size / 1e6
        variants[what] = Variant(what, size_mb, both, speed, leak.logits, leak.flipped, len(sentences))
        outcomes[what] = done
    return variants, outcomes


def _accuracy(test: Outcome, valid: Outcome, before: Outcome) -> dict[str, float]:
    """Intents as `test`, `valid`, `test_fp32`; slots as `entity_*`; `exact`: intent and every slot right. All 0..1."""
    found = {
        "test": test.accuracy,
        "valid": valid.accuracy,
        "test_fp32": before.accuracy,
        "entity_f1": test.entities.f1,
        "entity_f1_valid": valid.entities.f1,
        "entity_f1_fp32": before.entities.f1,
        "entity_precision": test.entities.precision,
        "entity_recall": test.entities.recall,
        "exact": test.exact,
        "exact_valid": valid.exact,
    }
    return {what: round(value, 4) for what, value in found.items()}


def _weakest_types(test: Outcome) -> list[dict[str, Any]]:
    """The slot types with the lowest F1 (0..1), and how many of each were wanted."""
    rows: list[dict[str, Any]] = [
        {"type": kind, "f1": round(one.f1, 3), "slots": one.wanted}
        for kind, one in test.by_type.items()
        if one.wanted >= LEAST_WANTED
    ]
    return sorted(rows, key=lambda row: float(row["f1"]))[:WEAKEST]


def _weakest_intents(test: Outcome) -> list[dict[str, Any]]:
    """The intents that are recognised least: recall (0..1), sentences, and what they are most often taken for."""
    rows: list[dict[str, Any]] = []
    for intent, count in Counter(wanted for wanted, _ in test.intents).items():
        mistakes = Counter(given for wanted, given in test.intents if wanted == intent != given)
        recall = round(1 - mistakes.total() / count, 3)
        taken = mistakes.most_common(1)[0][0] if mistakes else None
        rows.append({"intent": intent, "recall": recall, "sentences": count, "taken_for": taken})
    return sorted(rows, key=lambda row: float(row["recall"]))[:WEAKEST]
