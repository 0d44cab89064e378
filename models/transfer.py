"""Sentences for a student to hear its teacher on: variations of the training part that nobody has to label.

After Tang et al. 2019 ("Distilling Task-Specific Knowledge from BERT into Simple Neural Networks") and Jiao et al. 2020
(TinyBERT): on the sentences that it was trained on a teacher says little more than their labels; on broken and
rebuilt ones it says what it goes by. Words are replaced by their neighbours in the teacher's own table of tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 8
BESIDE = 3
"""Unlabelled sentences that stand beside the rebuilt ones of each sentence."""

REPLACED, DROPPED, CROPPED, JOINED = 0.15, 0.06, 0.2, 0.1
"""Shares: of words replaced and dropped, of sentences cut to a part and joined with another one."""


def neighbours(
    words: Sequence[str], table: NDArray[np.float32], count: int = NEIGHBOURS
) -> dict[str, list[str]]:
    """For each word the `count` words whose rows of `table` [words, features] are most like its own, by cosine."""
    rows = table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-9)
    found = {}
    for start in range(0, len(words), 512):
        near = rows[start : start + 512] @ rows.T
        best = np.argpartition(-near, count + 1, axis=1)[:, : count + 1]
        for row, (word, candidates) in enumerate(zip(words[start : start + 512], best, strict=True)):
            ordered = sorted(candidates, key=lambda at: -near[row, at])
            found[word] = [words[at] for at in ordered if words[at] != word][:count]
    return found


def rebuild(text: str, others: Sequence[str], near: Mapping[str, Sequence[str]], random: Random) -> str:
    """`text` broken and rebuilt; `others` are sentences of the same set, to join it with."""
    words = text.split()
    if len(words) > 4 and random.random() < CROPPED:
        kept = random.randint(max(3, len(words) // 2), len(words) - 1)
        start = random.randint(0, len(words) - kept)
        words = words[start : start + kept]
    rebuilt = []
    for word in words:
        chance = random.random()
        if chance < DROPPED:
            continue
        candidates = near.get(word.lower().strip(".,?!"))
        rebuilt.append(random.choice(candidates) if candidates and chance < DROPPED + REPLACED else word)
    if random.random() < JOINED:
        other = random.choice(others).split()
        rebuilt += other[random.randint(0, len(other) - 1) :]
    return " ".join(rebuilt) or text


def pool(
    texts: Sequence[str], near: Mapping[str, Sequence[str]], variants: int, seed: int = 0
) -> list[list[str]]:
    """`variants` rebuilt sentences for each text, the same at every call."""
    random = Random(seed)
    return [[rebuild(text, texts, near, random) for _ in range(variants)] for text in texts]


def beside(rows: Sequence[Sequence[str]], unlabelled: Sequence[str], seed: int = 7) -> list[list[str]]:
    """The rows with BESIDE of the unlabelled sentences each, which all take turns; the same at every call."""
    random, waiting = Random(seed), list[str]()
    while len(waiting) < BESIDE * len(rows):
        again = list(unlabelled)
        random.shuffle(again)
        waiting += again
    return [[*row, *waiting[at * BESIDE : (at + 1) * BESIDE]] for at, row in enumerate(rows)]


def common(vocabulary: Mapping[str, int], count: int) -> list[str]:
    """The first `count` whole words of a vocabulary, which lists the most frequent ones of the language first.

    Among them are words that no training sentence has: the teacher knows what they are like, and so a student meets
    them.
    """
    words = (token for token in sorted(vocabulary, key=vocabulary.__getitem__) if token.isascii())
    return [word for word in words if word.isalpha() and len(word) > 1][:count]
