"""From labelled sentences to a catalog entry: train, export, choose a variant, measure it, write it down."""

import dataclasses
import hashlib
import json
import os
import platform
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from models.intents import measure, quantise
from models.intents.card import card_for_people
from models.intents.fit import STEP_SIZES, Epoch, fit
from models.intents.network import export
from models.intents.recipe import Recipe
from models.intents.utterances import Utterance
from models.intents.vocabulary import train_vocabulary

FILES = ("model.onnx", "tokenizer.json")
"""What a card vouches for with a SHA-256 each."""

MAX_TOKENS = STEP_SIZES[-1]
Parts = Mapping[str, Sequence[Utterance]]


def build_entry(
    parts: Parts,
    own: Sequence[Utterance],
    recipe: Recipe,
    out: Path,
    *,
    version: str,
    about: Mapping[str, str],
    report: Callable[[Epoch], None],
) -> dict[str, Any]:
    """Write the entry to the folder `out` (.../MODEL/TIER) and return its card.

    parts: sentences by "train", "valid", "test"; the test part is looked at once, when everything is chosen.
    about: "name", "source" and "licence" of the data. own: further sentences to measure on. report: called after
    each epoch. Raises ValueError when there are too few sentences to train on.
    """
    if len(parts["train"]) < recipe.batch:
        raise ValueError(
            f"{len(parts['train'])} sentences are too few to train on; a batch alone is {recipe.batch}"
        )
    out.mkdir(parents=True, exist_ok=True)
    labels = sorted({item.intent for item in parts["train"]})
    began = time.monotonic()
    tokenizer = train_vocabulary((item.text for item in parts["train"]), recipe.vocabulary)
    network, _ = fit(parts["train"], parts["valid"], labels, tokenizer, recipe, report)
    seconds = time.monotonic() - began

    def accuracy(session: Any, items: Sequence[Utterance]) -> measure.Outcome:
        rows = measure.encode(tokenizer, [item.text for item in items], MAX_TOKENS)
        return measure.evaluate(session, rows, items, labels)

    with tempfile.TemporaryDirectory() as folder:
        paths = quantise.write_variants(export(network, Path(folder) / "fp32.onnx"), Path(folder))
        variants = measured(paths, tokenizer, parts["valid"], labels)
        chosen = quantise.choose(variants)
        session = measure.open_session(paths[chosen.name])
        test = accuracy(session, parts["test"])
        fp32 = accuracy(measure.open_session(paths["fp32"]), parts["test"])
        ours = accuracy(session, own)
        shutil.copyfile(paths[chosen.name], out / "model.onnx")
    tokenizer.save(str(out / "tokenizer.json"), pretty=False)
    card = {
        "model": out.parent.name,
        "tier": out.name,
        "version": version,
        "task": "intent",
        "labels": labels,
        "max_tokens": MAX_TOKENS,
        "sha256": {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in FILES},
        "data": {**about} | {name: len(items) for name, items in parts.items()},
        "licence": f"Apache-2.0 (weights); data {about['licence']}",
        "variant": chosen.name,
        "accuracy": {
            "test": round(test.accuracy, 4),
            "valid": round(chosen.valid, 4),
            "test_fp32": round(fp32.accuracy, 4),
            "own_utterances": round(ours.accuracy, 4),
        },
        "size_mb": round(sum((out / name).stat().st_size for name in FILES) / 1e6, 3),
        "p50_ms": round(chosen.p50_ms[1], 4),
        "variants": {name: described(variant, variants["fp32"]) for name, variant in variants.items()},
        "training": {**dataclasses.asdict(recipe), "seconds": round(seconds)},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, 1 thread used",
        "worst_intents": [
            {"intent": intent, "recall": round(recall, 3), "taken_for": test.mistaken_for.get(intent)}
            for intent, recall in sorted(test.recall.items(), key=lambda entry: entry[1])[:8]
        ],
    }
    counts = Counter(item.intent for item in parts["test"])
    (out / "README.md").write_text(card_for_people(card, counts))
    # Last: an entry without a card is none, so a service that watches the folder never sees half of one.
    (out / "card.json").write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n")
    return card


def measured(
    paths: Mapping[str, Path], tokenizer: Tokenizer, valid: Sequence[Utterance], labels: Sequence[str]
) -> dict[str, quantise.Variant]:
    """Every variant: size, accuracy on the validation part, speed, independence of its neighbours."""
    rows = measure.encode(tokenizer, [item.text for item in valid], MAX_TOKENS)
    sessions = [measure.open_session(path) for path in paths.values()]
    speeds = measure.speeds(sessions, tokenizer.get_vocab_size())
    variants = {}
    for (name, path), session, speed in zip(paths.items(), sessions, speeds, strict=True):
        leak = measure.leak(session, rows)
        accuracy = measure.evaluate(session, rows, valid, labels).accuracy
        size_mb = path.stat().st_size / 1e6
        variants[name] = quantise.Variant(name, size_mb, accuracy, speed, leak.logits, leak.flipped)
    return variants


def described(variant: quantise.Variant, fp32: quantise.Variant) -> dict[str, Any]:
    """A variant's part of the card."""
    return {
        "size_mb": round(variant.size_mb, 3),
        "valid": round(variant.valid, 4),
        "p50_ms": {str(batch): round(ms, 4) for batch, ms in variant.p50_ms.items()},
        "batch_moves_logits": float(f"{variant.leak:.2g}"),
        "batch_flips_labels": variant.flipped,
        "objections": quantise.objections(variant, fp32),
    }
