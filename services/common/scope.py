"""Telling that a text belongs to none of a model's intents: scores of its logits, and the gate that a card names.

The energy score is that of Liu et al. 2020 ("Energy-based Out-of-distribution Detection", NeurIPS): the log of the sum
of the exponentials of the logits, high where the model has seen such sentences. It costs nothing beside the logits. The
entropy of the probabilities and the largest of them say more where a model is too small for its logits to know how
large they should be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Score = Callable[[Floats], Floats]


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
