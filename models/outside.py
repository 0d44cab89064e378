"""Telling that a sentence belongs to none of the known intents: a score, and a threshold chosen on validation.

The energy score is that of Liu et al. 2020 ("Energy-based Out-of-distribution Detection", NeurIPS): the log of the sum
of the exponentials of the logits, high where the model has seen such sentences. It costs nothing beside the logits.
Entropy of the probabilities and the largest of them are there to compare with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Score = Callable[[Floats], Floats]

IN_SCOPE_LOSS = 0.01
"""Accuracy (0..1) on sentences in scope that may be lost to rejections."""


def energy(logits: Floats) -> Floats:
    """[sentences, classes] -> [sentences]; higher means more at home."""
    top = logits.max(axis=1)
    return np.asarray(top + np.log(np.exp(logits - top[:, None]).sum(axis=1)))


def largest(logits: Floats) -> Floats:
    """The largest probability, 0..1."""
    return np.asarray(np.exp(logits.max(axis=1) - energy(logits)))


def certainty(logits: Floats) -> Floats:
    """Minus the entropy of the probabilities, nats."""
    logs = logits - energy(logits)[:, None]
    return np.asarray((np.exp(logs) * logs).sum(axis=1))


SCORES: Mapping[str, Score] = {"energy": energy, "certainty": certainty, "largest": largest}


@dataclass(frozen=True)
class Gate:
    """What scores below `threshold` is taken for out of scope."""

    score: str
    threshold: float

    def rejects(self, logits: Floats) -> NDArray[np.bool_]:
        """[sentences, classes] -> [sentences]."""
        return np.asarray(SCORES[self.score](logits) < self.threshold)


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
