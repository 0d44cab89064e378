"""The card of a command parser as a page of Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def card_for_people(card: Mapping[str, Any]) -> str:
    """README.md of an entry."""
    accuracy, training, data = card["accuracy"], card["training"], card["data"]
    types = (len(card["tags"]) - 1) // 2
    memory = f", {card['rss_mb']:.0f} MB of memory when served alone" if "rss_mb" in card else ""
    taught = f", taught by {training['teacher']}" if "teacher" in training else ""
    alone = ""
    if card["max_batch"] == 1:
        alone = "- One command at a time (`max_batch` 1): activations take their scale from all that runs together.\n"
    told = ", ".join(f"{what} {value}" for what, value in card["structure"].items())
    return f"""# {card["model"]}/{card["tier"]}, version {card["version"]}

Tells which of {len(card["labels"])} intents a short English command expresses (`logits`), and marks its slots, of \
{types} types (`tags`: O, and
B- and I- of each type, for every token), in one run.
{card["variant"]}: {card["size_mb"]} MB with its tokenizer{memory}. {told}.

| | validation | **test** | test, FP32 |
|---|---|---|---|
| intent accuracy | {accuracy["valid"]:.2%} | **{accuracy["test"]:.2%}** | {accuracy["test_fp32"]:.2%} |
| entity F1 (exact span and type, micro) | {accuracy["entity_f1_valid"]:.2%} | **{accuracy["entity_f1"]:.2%}** | \
{accuracy["entity_f1_fp32"]:.2%} |
| intent and every slot right | {accuracy["exact_valid"]:.2%} | **{accuracy["exact"]:.2%}** | - |

- Entities on test: precision {accuracy["entity_precision"]:.2%}, recall {accuracy["entity_recall"]:.2%}.
- {card["source"]}{taught}; {training["seconds"] / 60:.0f} minutes of training, seed {training["seed"]} only. The \
validation part decided, the test part was looked at once.
- Data: {data["name"]}, {data["train"]} / {data["valid"]} / {data["test"]} sentences; {data["source"]}; \
{data["licence"]}. Licence of the weights: {card["licence"]}.
{alone}
| variant | MB | validation: mean of both / entity F1 | p50 ms at batch 1 / 8 / 32, 11 tokens | \
against serving it in any batch |
|---|---|---|---|---|
{_variants(card)}

Speeds: {card["machine"]}; compare them with each other.

| weakest slot types on test | F1 | slots |
|---|---|---|
{_types(card)}

| weakest intents on test | recall | most often taken for |
|---|---|---|
{_intents(card)}

Limits: English; one of its intents is named, whatever is asked. A slot begins and ends between words.
Sentences are cut at {card["max_tokens"]} tokens, and a slot behind the cut is not found.
"""


def _variants(card: Mapping[str, Any]) -> str:
    rows = []
    for name, variant in card["variants"].items():
        served = " (this entry)" if name == card["variant"] else ""
        speeds = " / ".join(f"{ms:.3f}" for ms in variant["p50_ms"].values())
        why = "; ".join(variant["objections"]) or "-"
        rows.append(
            f"| {name}{served} | {variant['size_mb']:.2f} | {variant['valid']:.2%} / "
            f"{variant['entity_f1_valid']:.2%} | {speeds} | {why} |"
        )
    return "\n".join(rows)


def _types(card: Mapping[str, Any]) -> str:
    return "\n".join(f"| {row['type']} | {row['f1']:.0%} | {row['slots']} |" for row in card["worst_types"])


def _intents(card: Mapping[str, Any]) -> str:
    return "\n".join(
        f"| {row['intent']} | {row['recall']:.0%} of {row['sentences']} | {row['taken_for'] or '-'} |"
        for row in card["worst_intents"]
    )
