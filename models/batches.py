"""Sentences of different lengths in batches: padded to few lengths, about equally long together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

import numpy as np
from numpy.typing import NDArray

PAD_ID = 0
"""[PAD] in every vocabulary of the catalog."""


def pad(rows: Sequence[Sequence[int]], sizes: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Right-pad token ids to the next of `sizes`, and cut what is longer than the last: ids [batch, steps] and lengths
    [batch]. Each size is compiled once."""
    longest = max(len(row) for row in rows)
    steps = next(size for size in sizes if size >= min(longest, sizes[-1]))
    ids = np.full((len(rows), steps), PAD_ID, np.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row[:steps]
    return ids, np.minimum([len(row) for row in rows], steps).astype(np.int64)


def batches(rows: Sequence[Sequence[int]], size: int, random: Random) -> Iterator[list[int]]:
    """Indices of shuffled full batches of about equally long rows: little is padding."""
    order = list(range(len(rows)))
    random.shuffle(order)
    pool = size * 16
    chunks = []
    for start in range(0, len(order), pool):
        ordered = sorted(order[start : start + pool], key=lambda row: len(rows[row]))
        chunks += [ordered[at : at + size] for at in range(0, len(ordered) - size + 1, size)]
    random.shuffle(chunks)
    yield from chunks
