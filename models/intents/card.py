"""The card of a catalog entry as a page of Markdown."""

from collections.abc import Mapping
from typing import Any


def card_for_people(card: Mapping[str, Any], counts: Mapping[str, int]) -> str:
    """README.md of an entry. counts: sentences of the test part by intent."""
    name = f"{card['model']}/{card['tier']}"
    accuracy, training, data = card["accuracy"], card["training"], card["data"]
    return f"""# {name}, version {card["version"]}

Tells which of {len(card["labels"])} intents a short English sentence expresses. A BiLSTM of \
{training["features"]} features and {training["hidden"]} units
in each direction, own WordPiece vocabulary, max and mean pooling: {card["size_mb"]} MB with its tokenizer.

- Data: {data["name"]} ({data["source"]}), {data["licence"]};
  {data["train"]} / {data["valid"]} / {data["test"]} sentences to train, choose and test.
- Accuracy: **test {accuracy["test"]:.2%}**, validation {accuracy["valid"]:.2%}; FP32 on test \
{accuracy["test_fp32"]:.2%};
  on our own `models/data/utterances.tsv` {accuracy["own_utterances"]:.2%}.
- Trained {training["seconds"]} s, {training["epochs"]} epochs; the epoch was chosen on the validation part,
  the test part was looked at once:
  `python -m models.train_intents --data DIR --out models/catalog/{name} --seed {training["seed"]}`
- Licence: {card["licence"]}.

| variant | MB | validation | p50 ms at batch 1 / 8 / 32, 11 tokens | not served because |
|---|---|---|---|---|
{_variants(card)}

Speeds: {card["machine"]}; compare them with each other.

| weakest intents on test | recall | most often taken for |
|---|---|---|
{_weakest(card, counts)}

Limits: it knows nothing but its {len(card["labels"])} intents and always names one, whatever is asked;
text in another script is read as unknown words. Sentences are cut at {card["max_tokens"]} tokens.
"""


def _variants(card: Mapping[str, Any]) -> str:
    rows = []
    for name, variant in card["variants"].items():
        served = " (served)" if name == card["variant"] else ""
        speeds = " / ".join(f"{ms:.3f}" for ms in variant["p50_ms"].values())
        why = "; ".join(variant["objections"]) or "-"
        rows.append(
            f"| {name}{served} | {variant['size_mb']:.2f} | {variant['valid']:.2%} | {speeds} | {why} |"
        )
    return "\n".join(rows)


def _weakest(card: Mapping[str, Any], counts: Mapping[str, int]) -> str:
    return "\n".join(
        f"| {w['intent']} | {w['recall']:.0%} of {counts[w['intent']]} | {w['taken_for'] or '-'} |"
        for w in card["worst_intents"]
    )
