"""An entry of the catalog as every rival and the bare run have it: ONNX Runtime on one thread, tokenizer in process.

It runs in the environments of the rivals: only the standard library, NumPy, onnxruntime and tokenizers are there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # read when the package is imported

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer

MOST_TOGETHER = 32

Feed = dict[str, NDArray[np.int64]]


class Model:
    """The files in ``folder``; as many sentences run together as its card lets, for all of them give the same answers.

    Making one takes the load and a first run.
    """

    def __init__(self, folder: Path) -> None:
        card = json.loads((folder / "card.json").read_text())
        self._labels: list[str] = card["labels"]
        self._output: str = card.get("output", "logits")
        self._together = together(card.get("max_batch", 0))
        self._tokenizer = tokenizer(folder / "tokenizer.json", card["max_tokens"])
        self._session = session(folder / "model.onnx")
        self.labels(["warm up"] * self._together)

    def labels(self, texts: Sequence[str]) -> list[str]:
        """The label of each text; several runs where the card lets fewer run together."""
        found: list[str] = []
        rows = ids(self._tokenizer, texts)
        for at in range(0, len(rows), self._together):
            (logits,) = self._session.run([self._output], feed(rows[at : at + self._together]))
            found += [self._labels[best] for best in logits.argmax(axis=1).tolist()]
        return found


def together(max_batch: int, most: int = MOST_TOGETHER) -> int:
    """How many sentences run together: at most ``most``, fewer where a card's ``max_batch`` (0: any) says so."""
    return min(most, max_batch or most)


def session(path: Path) -> Any:
    """ONNX Runtime as it comes, on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def tokenizer(path: Path, max_tokens: int) -> Tokenizer:
    """The tokenizer of an entry, cutting at ``max_tokens``."""
    made = Tokenizer.from_file(str(path))
    made.no_padding()
    made.enable_truncation(max_tokens)
    return made


def ids(made: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """The token ids of each text; a text without any is one unknown token."""
    unknown = made.token_to_id("[UNK]") or 0
    return [encoding.ids or [unknown] for encoding in made.encode_batch_fast(list(texts))]


def feed(rows: Sequence[Sequence[int]]) -> Feed:
    """The inputs of a run: right-padded ids [batch, tokens], lengths [batch]."""
    lengths = [len(row) for row in rows]
    padded = np.zeros((len(rows), max(lengths)), dtype=np.int64)
    for at, row in enumerate(rows):
        padded[at, : len(row)] = row
    return {"ids": padded, "lengths": np.asarray(lengths, dtype=np.int64)}
