"""The gate that tells that a sentence belongs to none of the known intents: its threshold, and then its score, chosen
on validation. What scores there are, and what a gate is, is the services' (`services.common.scope`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.common.scope import SCORES, Floats, Gate

IN_SCOPE_LOSS = 0.01
"""Accuracy (0..1) on sentences in scope that may be lost to rejections."""


@dataclass(frozen=True)
class Gated:
    """How a gate does: accuracy (0..1) in scope without and with it, and the share of out-of-scope sentences that it
    rejects."""

    accuracy: float
    accuracy_gated: float
    recall: float


def choose(score: str, logits: Floats, targets: NDArray[np.int64]) -> Gate:
    """The gate that rejects as much as it may: its threshold is the highest that costs the validation sentences
    `logits` [sentences, classes] at most IN_SCOPE_LOSS of their accuracy."""
    right = np.sort(SCORES[score](logits)[logits.argmax(axis=1) == targets])
    may_lose = int(IN_SCOPE_LOSS * len(targets))
    return Gate(score, float(right[min(may_lose, len(right) - 1)]))


def measure(gate: Gate, logits: Floats, targets: NDArray[np.int64], outside: Floats) -> Gated:
    """Accuracy on sentences in scope, recall on those that are not, both as logits [sentences, classes]."""
    right = logits.argmax(axis=1) == targets
    return Gated(
        accuracy=float(right.mean()),
        accuracy_gated=float((right & ~gate.rejects(logits)).mean()),
        recall=float(gate.rejects(outside).mean()),
    )


def best(recalls: Mapping[str, float]) -> str:
    """The score whose gate recognises most; the first of them, in the order of SCORES, where several do."""
    return max((score for score in SCORES if score in recalls), key=lambda score: recalls[score])
