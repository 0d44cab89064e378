"""The card of a catalog entry as a page of Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def card_for_people(card: Mapping[str, Any]) -> str:
    """README.md of an entry."""
    name = f"{card['model']}/{card['tier']}"
    accuracy, training = card["accuracy"], card["training"]
    told = ", ".join(f"{what} {value}" for what, value in card["structure"].items())
    memory = f", {card['rss_mb']:.0f} MB of memory when served alone" if "rss_mb" in card else ""
    ours = ""
    if "own_utterances" in accuracy:
        ours = f"- Our own `models/data/utterances.tsv`: {accuracy['own_utterances']:.2%}.\n"
    alone = ""
    if card["max_batch"] == 1:
        alone = "- One sentence at a time (`max_batch` 1): activations take their scale from all that runs together.\n"
    return f"""# {name}, version {card["version"]}

Tells which of the known intents a short English sentence expresses, {card["variant"]}: {card["size_mb"]} MB with its \
tokenizer{memory}.
{told}. `logits` answers with the {len(card["labels"])} intents of the first set.

| set | output | intents | sentences: train / valid / test | validation | **test** | test, FP32 |
|---|---|---|---|---|---|---|
{_heads(card)}

{_seeds(card)}{_outside(card)}{_embedding(card)}\
{ours}- {card["source"]}; {training["seconds"] / 60:.0f} minutes of training, seed \
{training["seed"]}{_taught(training)}. Validation parts decided, each test part was looked at once.
- Data: {card["data"]["source"]}; {card["data"]["licence"]}. Licence of the weights: {card["licence"]}.
{alone}
| variant | MB | validation | p50 ms at batch 1 / 8 / 32, 11 tokens | against serving it in any batch |
|---|---|---|---|---|
{_variants(card)}

Speeds: {card["machine"]}; compare them with each other.

| set | weakest intents on test | recall | most often taken for |
|---|---|---|---|
{_weakest(card)}

Limits: English; a head names one of its intents, whatever is asked, unless its gate is used. Sentences are cut at \
{card["max_tokens"]} tokens.
"""


def _heads(card: Mapping[str, Any]) -> str:
    return "\n".join(
        f"| {name} | `{head['output']}` | {len(head['labels'])} | "
        f"{' / '.join(str(n) for n in head['sentences'].values())} | {head['valid']:.2%} | **{head['test']:.2%}** | "
        f"{head['test_fp32']:.2%} |"
        for name, head in card["heads"].items()
    )


def _seeds(card: Mapping[str, Any]) -> str:
    lines = [
        f"| {name} | {row['mean']:.2%} | {row['min']:.2%} to {row['max']:.2%} | "
        f"{', '.join(map(str, row['seeds']))} |"
        for name, row in card.get("seeds", {}).items()
    ]
    if not lines:
        return ""
    return (
        "| set | test, mean of the seeds | range | seeds |\n|---|---|---|---|\n" + "\n".join(lines) + "\n\n"
    )


def _outside(card: Mapping[str, Any]) -> str:
    lines = [
        f"| {name} | {score}{' (answers go by it)' if score == head.get('gate') else ''} | {row['recall']:.1%} | "
        f"{row['accuracy_in_scope']:.2%} |"
        for name, head in card["heads"].items()
        for score, row in head.get("out_of_scope", {}).items()
    ]
    if not lines:
        return ""
    head = "| set | score | out of scope recognised | accuracy in scope, with the gate |\n|---|---|---|---|\n"
    return (
        head
        + "\n".join(lines)
        + "\n\nThresholds are chosen on validation, to cost a point of accuracy at most; so is the score.\n\n"
    )


def _embedding(card: Mapping[str, Any]) -> str:
    lines = [
        f"| {name} | {row['nearest_neighbour']:.2%} | "
        + ("-" if row["summary_on_topic"] is None else f"{row['summary_on_topic']:.1%}")
        + " |"
        for name, head in card["heads"].items()
        if (row := head.get("embedding"))
    ]
    if not lines:
        return ""
    return (
        "`embedding` gives the sentence's vector, of length 1. Nearest: test sentences whose most similar training "
        "sentence has their intent. Summary: the two most central sentences of seven, of which four are on one topic, "
        "are on that topic; any two would be in 57.1 %.\n\n| set | nearest | summary on topic |\n|---|---|---|\n"
        + "\n".join(lines)
        + "\n\n"
    )


def _taught(training: Mapping[str, Any]) -> str:
    return f", taught by {training['teacher']}" if training.get("teacher") else ""


def _variants(card: Mapping[str, Any]) -> str:
    rows = []
    for name, variant in card["variants"].items():
        served = " (this entry)" if name == card["variant"] else ""
        speeds = " / ".join(f"{ms:.3f}" for ms in variant["p50_ms"].values())
        why = "; ".join(variant["objections"]) or "-"
        rows.append(
            f"| {name}{served} | {variant['size_mb']:.2f} | {variant['valid']:.2%} | {speeds} | {why} |"
        )
    return "\n".join(rows)


def _weakest(card: Mapping[str, Any]) -> str:
    return "\n".join(
        f"| {name} | {row['intent']} | {row['recall']:.0%} of {row['sentences']} | {row['taken_for'] or '-'} |"
        for name, head in card["heads"].items()
        for row in head["worst_intents"][:4]
    )
