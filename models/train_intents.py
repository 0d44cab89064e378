"""Train an intent model and write its catalog entry: `python -m models.train_intents --help`.

What is made: a vocabulary learnt from the training part, a BiLSTM chosen by the validation part, the smallest ONNX
variant that loses nothing (see `models.intents.quantise`), and a card with everything measured. The test part is
looked at once, at the end.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from tokenizers import Tokenizer

from models.intents import measure, quantise
from models.intents.fit import STEP_SIZES, Epoch, Recipe, fit
from models.intents.network import export
from models.intents.utterances import Utterance, read_utterances
from models.intents.vocabulary import train_vocabulary

OWN = Path(__file__).parent / "data" / "utterances.tsv"
DATA = {
    "name": "HWU64, DialoGLUE cut",
    "source": "Liu et al. 2019, Benchmarking Natural Language Understanding Services for building Conversational Agents",
    "licence": "CC BY 4.0",
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m models.train_intents",
        description="Train an intent model on DIR/{train,valid,test}.tsv (text<TAB>intent) and write a catalog entry.",
        epilog="Example: python -m models.train_intents --data ../shared/data/intents/hwu64 --out models/catalog/intent/tiny",
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="folder with train.tsv, valid.tsv, test.tsv"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="catalog entry to write, .../MODEL/TIER"
    )
    parser.add_argument("--version", default="1", help="version on the card (default %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=1, help="decides every random choice (default %(default)s)"
    )
    parser.add_argument(
        "--epochs", type=int, default=Recipe.epochs, help="passes over the data (default %(default)s)"
    )
    return parser.parse_args()


def train(
    parts: dict[str, list[Utterance]], labels: list[str], recipe: Recipe
) -> tuple[Any, Tokenizer, float]:
    """Return the network, its tokenizer and its accuracy on the validation part; progress is drawn meanwhile."""
    tokenizer = train_vocabulary((item.text for item in parts["train"]), recipe.vocabulary)
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns) as progress:
        task = progress.add_task("", total=recipe.epochs)
        best = 0.0

        def report(epoch: Epoch) -> None:
            nonlocal best
            best = max(best, epoch.valid)
            progress.update(
                task,
                advance=1,
                description=f"loss {epoch.loss:.3f}  valid {epoch.valid:.2%}  best {best:.2%}",
            )

        network, accuracy = fit(parts["train"], parts["valid"], labels, tokenizer, recipe, report)
    return network, tokenizer, accuracy


def measured(
    paths: dict[str, Path], rows: list[list[int]], valid: list[Utterance], labels: list[str], tokens: int
) -> dict[str, quantise.Variant]:
    """Every variant with its size, accuracy on the validation part, speed and independence of its neighbours."""
    sessions = [measure.open_session(path) for path in paths.values()]
    speeds = measure.speeds(sessions, tokens)
    variants = {}
    for (name, path), session, speed in zip(paths.items(), sessions, speeds, strict=True):
        leak = measure.leak(session, rows)
        accuracy = measure.evaluate(session, rows, valid, labels).accuracy
        variants[name] = quantise.Variant(
            name, path.stat().st_size / 1e6, accuracy, speed, leak.logits, leak.flipped
        )
    return variants


def main() -> int:
    args = arguments()
    recipe = Recipe(seed=args.seed, epochs=args.epochs)
    try:
        parts = {name: read_utterances(args.data / f"{name}.tsv") for name in ("train", "valid", "test")}
        own = read_utterances(OWN)
    except (OSError, ValueError) as error:
        print(f"train_intents: {error}", file=sys.stderr)
        return 2
    labels = sorted({item.intent for item in parts["train"]})
    began = time.monotonic()
    network, tokenizer, _ = train(parts, labels, recipe)
    took = time.monotonic() - began
    most = STEP_SIZES[-1]
    rows = {name: measure.encode(tokenizer, [i.text for i in items], most) for name, items in parts.items()}
    with tempfile.TemporaryDirectory() as folder:
        paths = quantise.write_variants(export(network, Path(folder) / "fp32.onnx"), Path(folder))
        variants = measured(paths, rows["valid"], parts["valid"], labels, tokenizer.get_vocab_size())
        chosen = quantise.choose(variants)
        session = measure.open_session(paths[chosen.name])
        test = measure.evaluate(session, rows["test"], parts["test"], labels)
        fp32_test = measure.evaluate(
            measure.open_session(paths["fp32"]), rows["test"], parts["test"], labels
        ).accuracy
        own_rows = measure.encode(tokenizer, [i.text for i in own], most)
        own_accuracy = measure.evaluate(session, own_rows, own, labels).accuracy
        args.out.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(paths[chosen.name], args.out / "model.onnx")
    tokenizer.save(str(args.out / "tokenizer.json"), pretty=False)
    card = {
        "model": args.out.parent.name,
        "tier": args.out.name,
        "version": args.version,
        "task": "intent",
        "labels": labels,
        "max_tokens": most,
        "sha256": {f: hashlib.sha256((args.out / f).read_bytes()).hexdigest() for f in ("model.onnx", "tokenizer.json")},
        "data": DATA | {n: len(items) for n, items in parts.items()},
        "licence": "Apache-2.0 (weights); data " + DATA["licence"],
        "variant": chosen.name,
        "accuracy": {
            "test": round(test.accuracy, 4),
            "valid": round(chosen.valid, 4),
            "test_fp32": round(fp32_test, 4),
            "own_utterances": round(own_accuracy, 4),
        },
        "size_mb": round(sum((args.out / f).stat().st_size for f in ("model.onnx", "tokenizer.json")) / 1e6, 3),
        "p50_ms": round(chosen.p50_ms[1], 4),
        "variants": {
            name: {
                "size_mb": round(v.size_mb, 3), "valid": round(v.valid, 4), "p50_ms": {str(b): round(t, 4) for b, t in v.p50_ms.items()},
                "batch_moves_logits": float(f"{v.leak:.2g}"), "batch_flips_labels": v.flipped,
                "objections": quantise.objections(v, variants["fp32"]),
            }
            for name, v in variants.items()
        },
        "training": {**dataclasses.asdict(recipe), "seconds": round(took)},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, 1 thread used",
        "worst_intents": [
            {"intent": i, "recall": round(r, 3), "taken_for": test.mistaken_for.get(i)}
            for i, r in sorted(test.recall.items(), key=lambda entry: entry[1])[:8]
        ],
    }  # fmt: skip
    (args.out / "card.json").write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n")
    (args.out / "README.md").write_text(card_for_people(card, Counter(i.intent for i in parts["test"])))
    print(
        f"{args.out}: {chosen.name}, test {test.accuracy:.2%}, own utterances {own_accuracy:.2%}, {card['size_mb']} MB"
    )
    return 0


def card_for_people(card: dict[str, Any], counts: Counter[str]) -> str:
    """The card as a page of Markdown."""
    accuracy, training = card["accuracy"], card["training"]
    rows = "\n".join(
        f"| {name}{' (served)' if name == card['variant'] else ''} | {v['size_mb']:.2f} | {v['valid']:.2%} "
        f"| {v['p50_ms']['1']:.3f} / {v['p50_ms']['8']:.3f} / {v['p50_ms']['32']:.3f} "
        f"| {'; '.join(v['objections']) or '-'} |"
        for name, v in card["variants"].items()
    )
    worst = "\n".join(
        f"| {w['intent']} | {w['recall']:.0%} of {counts[w['intent']]} | {w['taken_for'] or '-'} |"
        for w in card["worst_intents"]
    )
    return f"""# {card["model"]}/{card["tier"]}, version {card["version"]}

Tells which of {len(card["labels"])} intents a short English sentence expresses. A BiLSTM ({training["features"]} features,
{training["hidden"]} units in each direction, own WordPiece vocabulary, max and mean pooling), {card["size_mb"]} MB with its tokenizer.

- Data: {card["data"]["name"]} ({card["data"]["source"]}), {card["data"]["licence"]}; {card["data"]["train"]} / {card["data"]["valid"]} / {card["data"]["test"]} sentences.
- Accuracy: **test {accuracy["test"]:.2%}**, validation {accuracy["valid"]:.2%}; FP32 on test {accuracy["test_fp32"]:.2%}; on our own `models/data/utterances.tsv` {accuracy["own_utterances"]:.2%}.
- Trained with seed {training["seed"]}, {training["epochs"]} epochs, in {training["seconds"]} s; the epoch was chosen on the validation part, the test part was looked at once:
  `python -m models.train_intents --data DIR --out models/catalog/{card["model"]}/{card["tier"]} --seed {training["seed"]}`
- Licence: {card["licence"]}.

| variant | MB | validation | p50 ms at batch 1 / 8 / 32, 11 tokens | not served because |
|---|---|---|---|---|
{rows}

Speeds: {card["machine"]}; compare them with each other.

| weakest intents on test | recall | most often taken for |
|---|---|---|
{worst}

Limits: it knows nothing but its {len(card["labels"])} intents and always names one of them, whatever is asked; text in another script
is read as unknown words. Sentences are cut at {card["max_tokens"]} tokens.
"""


if __name__ == "__main__":
    sys.exit(main())
