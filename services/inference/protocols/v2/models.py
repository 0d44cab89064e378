"""Models and their server as the Open Inference Protocol, version 2, tells of them, whatever carries it.

A model is `<model>` (its preferred tier) or `<model>.<tier>`; the one version of it is that of its card.
"""

from __future__ import annotations

import msgspec

from services.common.problems import Problem
from services.inference.protocols.v2.tensors import Head
from services.inference.texts import Texts

NAME = "foremesh"
EXTENSIONS = ["binary_tensor_data", "model_repository"]
PLATFORM = "onnxruntime_onnx"
INPUTS = [Head("ids", "INT64", [-1, -1]), Head("lengths", "INT64", [-1])]


class Row(msgspec.Struct):
    """A line of the index: an entry of the catalog, READY or UNAVAILABLE, and why it is not ready."""

    name: str
    version: str
    state: str
    reason: str


class About(msgspec.Struct):
    """What a model is, takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[Head]
    outputs: list[Head]


def key(texts: Texts, name: str, version: str | None) -> str:
    """The key of the model that is named so. Raises the 404 `Problem` for one that is not there, or a version that is
    not the one there is; no version (or an empty one) is any."""
    found = texts.key(name)
    card = texts.repository.cards[found]
    if version and version != card.version:
        raise Problem(
            404, "unknown-version", "Unknown version",
            f"{found} is there in version {card.version}, not {version[:64]!r}", known=[card.version],
        )  # fmt: skip
    return found


def ready(texts: Texts, found: str) -> bool:
    """Whether the model of a key is in memory."""
    return found in texts.repository.held


async def about(texts: Texts, name: str, version: str | None) -> About:
    """Its tensors; it is loaded for that where it is not. Raises as `key` does, and what loading raises."""
    held = await texts.take(key(texts, name, version))
    try:
        outputs = [Head(output, "FP32", [-1, size]) for output, size in held.model.outputs.items()]
        return About(name, [held.card.version], PLATFORM, INPUTS, outputs)
    finally:
        texts.repository.leave(held)


def index(texts: Texts, *, only_ready: bool) -> list[Row]:
    """Every entry and its state, or those that are in memory, by key."""
    repository = texts.repository
    rows = []
    for each in sorted({*repository.cards, *repository.broken}):
        held, card = repository.held.get(each), repository.cards.get(each)
        if only_ready and held is None:
            continue
        rows.append(
            Row(
                each,
                card.version if card else "",
                "READY" if held else "UNAVAILABLE",
                repository.broken.get(each, "" if held else "not loaded"),
            )
        )
    return rows
