"""The card of an encoder's entry as a page of Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def card_for_people(card: Mapping[str, Any]) -> str:
    """README.md of an entry."""
    name = f"{card['model']}/{card['tier']}"
    encoder, training, accuracy = card["encoder"], card["training"], card["accuracy"]
    alone = (
        "One sentence at a time (`max_batch` 1): its activations take their scale from all that runs together, "
        f"and {card['batch_flips_labels']} of {card['batch_sentences']} answers changed among 32."
        if card["max_batch"] == 1
        else f"Neighbours in a batch move no logit by more than {card['batch_moves_logits']}."
    )
    ours = ""
    if "own_utterances" in accuracy:
        ours = f"- Our own `models/data/utterances.tsv`: {accuracy['own_utterances']:.2%}.\n"
    return f"""# {name}, version {card["version"]}

A transformer of {encoder["layers"]} layers and {encoder["features"]} features with one head for each of \
{len(card["heads"])} sets of intents, {card["variant"]}:
{card["size_mb"]} MB with its tokenizer, {card.get("rss_mb", 0):.0f} MB of memory when served alone. `logits` answers \
with the {len(card["labels"])} intents
of the first set; `embedding` is the sentence's vector, of length 1.

| set | output | intents | sentences: train / valid / test | validation | **test** | test, FP32 |
|---|---|---|---|---|---|---|
{_heads(card)}

{_outside(card)}{ours}- Started from {card["source"]}; fine-tuned for {training["stop"] or training["epochs"]} of \
{training["epochs"]} epochs on all sets at once,
  {training["seconds"] / 60:.0f} minutes, seed {training["seed"]} only.
- Data: {card["data"]["source"]}; {card["data"]["licence"]}. Licence of the weights: {card["licence"]}.
- {alone}

| ms at batch 1 / 8 / 32, 11 tokens | |
|---|---|
{_speeds(card)}

Speeds: {card["machine"]}; compare them with each other. Limits: English; the head names one of its intents, whatever \
is asked, unless its gate is used.
"""


def _heads(card: Mapping[str, Any]) -> str:
    return "\n".join(
        f"| {name} | `{head['output']}` | {len(head['labels'])} | "
        f"{' / '.join(str(n) for n in head['sentences'].values())} | {head['valid']:.2%} | **{head['test']:.2%}** | "
        f"{head['test_fp32']:.2%} |"
        for name, head in card["heads"].items()
    )


def _outside(card: Mapping[str, Any]) -> str:
    lines = [
        f"| {name} | {score} | {row['recall']:.1%} | {row['accuracy_in_scope']:.2%} |"
        for name, head in card["heads"].items()
        for score, row in head.get("out_of_scope", {}).items()
    ]
    if not lines:
        return ""
    head = "| set | score | out of scope recognised | accuracy in scope, with the gate |\n|---|---|---|---|\n"
    return (
        head
        + "\n".join(lines)
        + "\n\nThresholds are chosen on validation, to cost a point of accuracy at most.\n\n"
    )


def _speeds(card: Mapping[str, Any]) -> str:
    return "\n".join(
        f"| {name} | {' / '.join(f'{ms:.2f}' for ms in speeds.values())} |"
        for name, speeds in card["speeds_ms"].items()
    )
