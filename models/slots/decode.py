"""From the scores of the tags to the slots of a sentence, for whoever serves an entry: numpy and nothing else.

ids, offsets = encoding.ids, encoding.offsets
logits, tags = session.run(["logits", "tags"], {"ids": [ids], "lengths": [len(ids)]})
slots = decode(tags[0], offsets, text, card["tags"])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from models.slots.annotations import to_spans


class Slot(TypedDict):
    """A slot as it is answered: value is text[start:end]."""

    type: str
    value: str
    start: int
    end: int


def decode(
    scores: NDArray[np.float32], offsets: Sequence[tuple[int, int]], text: str, tags: Sequence[str]
) -> list[Slot]:
    """The slots of `text` from left to right.

    scores: [tokens, tags], padding left out or behind; offsets: (start, end) in `text` of each token; tags: their
    names, as the card has them. What is found is the best row of tags that BIO allows: an I- continues its own type,
    and no slot begins or ends within a word. Raises ValueError when there are fewer scores than offsets, or other tags.
    """
    if scores.ndim != 2 or scores.shape[0] < len(offsets) or scores.shape[1] != len(tags):
        raise ValueError(
            f"scores of shape {scores.shape} do not fit {len(offsets)} tokens and {len(tags)} tags; "
            "give one sentence, with the tags of the card of the model that scored it"
        )
    seen = [at for at, (start, end) in enumerate(offsets) if start < end]
    covered = [offsets[at] for at in seen]
    best = best_row(scores[seen], _glued(covered, text), tags)
    spans = to_spans([tags[at] for at in best], covered)
    return [Slot(type=kind, value=text[start:end], start=start, end=end) for kind, start, end in spans]


def best_row(scores: NDArray[np.float32], glued: Sequence[bool], tags: Sequence[str]) -> list[int]:
    """The row of tags, as numbers, with the largest sum of `scores` [tokens, tags] among those that BIO allows (Viterbi
    1967 with transitions that are free or forbidden). glued: True where a token continues the word before it."""
    index = {tag: at for at, tag in enumerate(tags)}
    outside = index["O"]
    inside = np.array([at for at, tag in enumerate(tags) if tag.startswith("I-")], np.intp)
    begin = np.array([index["B-" + tags[at][2:]] for at in inside], np.intp)
    opens = np.ones(len(tags), bool)
    opens[inside] = False
    total = np.where(opens, 0.0, -np.inf)
    came: list[NDArray[np.intp]] = []
    for row, same_word in zip(np.asarray(scores, np.float64), glued, strict=True):
        if came:
            before = total
            source = np.full(len(tags), int(before.argmax()), np.intp)
            source[inside] = np.where(before[begin] > before[inside], begin, inside)
            if same_word:
                source[outside] = outside
            total = before[source] + row
            if same_word:
                total[begin] = -np.inf
            came.append(source)
        else:
            total = total + row
            came.append(np.arange(len(tags), dtype=np.intp))
    if not came:
        return []
    found = [int(total.argmax())]
    for source in reversed(came[1:]):
        found.append(int(source[found[-1]]))
    return found[::-1]


def _glued(offsets: Sequence[tuple[int, int]], text: str) -> list[bool]:
    """Whether each token goes on in the word of the one before it: nothing between them, a letter or digit on both
    sides."""
    before = 0
    found = []
    for start, end in offsets:
        found.append(0 < start == before and text[start - 1].isalnum() and text[start].isalnum())
        before = end
    return found
