"""Sentences as a phone gives them to a model, and what two models answer to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from edge.mobile.weights import EMBEDDING
from models.batches import pad
from models.intents.measure import encode, open_session

Answer = Mapping[str, NDArray[np.float32]]
"""What a model answers to one sentence, by output: [1, ...]."""

Answers = Sequence[Answer]

Rows = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Sentences:
    """rows: token ids of each sentence, cut to what fits. cut: how many were longer."""

    rows: Rows
    cut: int


def tokenised(tokenizer: Tokenizer, texts: Sequence[str], tokens: int) -> Sentences:
    """The sentences as token ids, cut to `tokens`."""
    whole = encode(tokenizer, texts, max(len(text) for text in texts) + 2)
    return Sentences([row[:tokens] for row in whole], sum(len(row) > tokens for row in whole))


def padded(row: Sequence[int], tokens: int, dtype: type[np.signedinteger[Any]]) -> dict[str, NDArray[Any]]:
    """One sentence as a model of a fixed shape takes it: ids [1, tokens] and lengths [1]."""
    ids, lengths = pad([row], [tokens])
    return {"ids": ids.astype(dtype), "lengths": lengths.astype(dtype)}


def answers(model: Path, rows: Rows, tokens: int | None) -> Answers:
    """What ONNX Runtime answers to each sentence alone, padded to `tokens`, or not at all when that is None."""
    session = open_session(model)
    dtype = np.int32 if session.get_inputs()[0].type == "tensor(int32)" else np.int64
    names = [output.name for output in session.get_outputs()]

    return [
        dict(zip(names, session.run(names, padded(row, tokens or len(row), dtype)), strict=True))
        for row in rows
    ]


@dataclass(frozen=True)
class Difference:
    """Largest difference of a number that comes out; by head, sentences whose best class changes."""

    largest: float
    flipped: Mapping[str, int]
    sentences: int

    def described(self) -> dict[str, Any]:
        """Its part of a manifest."""
        return {
            "sentences": self.sentences,
            "largest_difference": float(f"{self.largest:.3g}"),
            "labels_flipped": dict(self.flipped),
        }


def difference(ours: Answers, theirs: Answers) -> Difference:
    """Compare what two models answer to the same sentences. Of an output for each token, [1, tokens, ...], the tokens
    that both have are compared: padding may have an answer too. Raises ValueError when their outputs are not the same.
    """
    if set(ours[0]) != set(theirs[0]):
        raise ValueError(
            f"nothing to compare: one model has the outputs {sorted(ours[0])}, the other {sorted(theirs[0])}"
        )
    largest = 0.0
    flipped = {name: 0 for name, value in theirs[0].items() if name != EMBEDDING and value.ndim == 2}
    for our, their in zip(ours, theirs, strict=True):
        for name in their:
            shared = min(our[name].shape[1], their[name].shape[1])
            largest = max(largest, float(np.abs(our[name][:, :shared] - their[name][:, :shared]).max()))
        for name in flipped:
            flipped[name] += int(our[name].argmax() != their[name].argmax())
    return Difference(largest, flipped, len(theirs))
