"""The further heads of an entry as entries of their own: a card each, over the same files.

A mini that knows three sets is three models to whoever asks: `intent/mini`, `assistant/mini`, `banking/mini`. The
second and third are nothing but a card that names the first one's `weights` and its own `output`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.build import place

SHARED = (
    "tier", "version", "task", "max_tokens", "max_batch", "sha256", "variant", "size_mb", "rss_mb", "p50_ms",
    "fp32_p50_ms", "structure", "training", "machine", "source", "licence",
)  # fmt: skip
"""Members that are the owner's."""


def write_heads(entry: Path, models: Mapping[str, str], data: Mapping[str, Mapping[str, Any]]) -> list[Path]:
    """Write an entry for each head of `entry` but the first; return their folders.

    models: set -> model of the catalog that its entry belongs to; data: set -> source and licence, for the card. Raises
    KeyError for a head of a set that neither names.
    """
    card = json.loads((entry / "card.json").read_text())
    catalog = entry.parent.parent
    made = []
    for name, head in list(card["heads"].items())[1:]:
        told = card_of(card, name, head, models[name], data[name])
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / entry.name
            out.mkdir()
            (out / "README.md").write_text(for_people(told))
            (out / "card.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")
            place(out, catalog / models[name] / entry.name)
        made.append(catalog / models[name] / entry.name)
    return made


def card_of(
    owner: Mapping[str, Any], name: str, head: Mapping[str, Any], model: str, data: Mapping[str, Any]
) -> dict[str, Any]:
    """The card of one head of `owner`."""
    return {
        "model": model,
        **{key: owner[key] for key in SHARED if key in owner},
        "labels": head["labels"],
        "weights": f"{owner['model']}/{owner['tier']}",
        "output": head["output"],
        "accuracy": {key: head[key] for key in ("test", "valid", "test_fp32")},
        "heads": {name: dict(head)},
        **({"seeds": {name: owner["seeds"][name]}} if name in owner.get("seeds", {}) else {}),
        "data": {"name": name, **data, **head["sentences"]},
    }


def for_people(card: Mapping[str, Any]) -> str:
    """README.md of such an entry."""
    head = next(iter(card["heads"].values()))
    sentences = ", ".join(f"{count} {part}" for part, count in head["sentences"].items())
    return f"""# {card["model"]}/{card["tier"]}, version {card["version"]}

The output `{card["output"]}` of [{card["weights"]}](../../{card["weights"]}/README.md), whose files it uses: \
{len(card["labels"])} intents, {head["test"]:.2%} on the test part ({sentences}), {head["valid"]:.2%} on validation, \
{head["test_fp32"]:.2%} on the test part as FP32.

Data: {card["data"]["source"]}; {card["data"]["licence"]}. Licence of the weights: {card["licence"]}.
"""
