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


def in_order(
    rows: Sequence[Sequence[int]], sizes: Sequence[int], batch: int
) -> Iterator[tuple[list[int], NDArray[np.int64], NDArray[np.int64]]]:
    """Every row once, the shortest first: indices [at most batch], ids [batch, steps] and lengths [batch].

    One shape per length: a last, smaller batch would be compiled on its own, so it is filled up with rows of padding.
    """
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        ids, lengths = pad([rows[row] for row in part], sizes)
        ids = np.concatenate([ids, np.zeros((batch - len(part), ids.shape[1]), np.int64)])
        yield part, ids, np.concatenate([lengths, np.ones(batch - len(part), np.int64)])
