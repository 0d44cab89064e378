"""Sparse attention: each position attends to its k best-scored positions only.

Zhao et al. 2019 ("Explicit Sparse Transformer: Concentrated Attention Through Explicit Selection"): scores below the
k-th best are barred before the softmax. No parameter goes; with k positions or fewer nothing changes. The network and
the export both take it as `top_k`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.intents import measure
from models.methods.row import Row
from models.methods.timing import VOCABULARY, measured, p50s
from models.minilm.export import export
from models.minilm.network import Encoder, Linear, parameters

TOP_K = 32
"""Positions that are attended to."""

TOKENS = (32, 64, 128)
"""Lengths at which the two are compared: k itself, where sparse can only add work, and where it has a choice."""


@dataclass(frozen=True)
class Timing:
    """Median milliseconds of one sentence of `tokens` tokens, all attention against the `top_k` best, in turns.

    MiniLM-L6 in FP32 with k=32, one thread of a busy machine with two cores: sparse took 1.14, 1.36 and 1.67 times as
    long at 32, 64 and 128 tokens, and 1.17, 1.29 and 1.39 times in another run. Choosing comes on top: softmax and both
    products still run over all positions.
    """

    tokens: int
    dense_ms: float
    sparse_ms: float

    @property
    def times(self) -> float:
        """How many times the dense one's time the sparse one takes: below 1 it is faster."""
        return self.sparse_ms / self.dense_ms


def timings(
    encoder: Encoder,
    heads: Mapping[str, Linear],
    folder: Path,
    *,
    top_k: int = TOP_K,
    tokens: Sequence[int] = TOKENS,
) -> list[Timing]:
    """FP32 dense against sparse at each length, from two files written to `folder`. Raises ValueError for a length
    that the encoder has no positions for, or a top_k below 1."""
    _check(encoder, top_k, max(tokens))
    files = [
        export(encoder, heads, folder / "dense.onnx"),
        export(encoder, heads, folder / f"top{top_k}.onnx", top_k=top_k),
    ]
    sessions = [measure.open_session(file) for file in files]
    vocabulary = min(VOCABULARY, int(encoder.tokens.shape[0]))
    return [Timing(count, *p50s(sessions, tokens=count, vocabulary=vocabulary)) for count in tokens]


def row(
    encoder: Encoder,
    heads: Mapping[str, Linear],
    path: Path,
    *,
    top_k: int = TOP_K,
    tokens: int = max(TOKENS),
    **told: Any,
) -> Row:
    """A sparse encoder exported to `path` and measured at `tokens` tokens. told: further arguments of
    `models.methods.timing.measured`. Raises ValueError for more tokens than it has positions, or a top_k below 1."""
    _check(encoder, top_k, tokens)
    file = export(encoder, heads, path, top_k=top_k)
    count = parameters((encoder, dict(heads)))
    return measured(file, "sparse", f"k={top_k}", parameters=count, tokens=tokens, **told)


def _check(encoder: Encoder, top_k: int, tokens: int) -> None:
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}; give the positions to attend to, such as {TOP_K}")
    longest = int(encoder.positions.shape[0])
    if tokens > longest:
        raise ValueError(
            f"{tokens} tokens are more than the encoder's {longest} positions; measure shorter ones"
        )
