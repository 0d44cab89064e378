"""From the scores of tags to marked tokens: the best row of tags that is one at all. NumPy and nothing else.

Tags are O, and B- and I- of each type. An I- continues its own type, and no slot begins or ends within a word.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.common.slots import NOTHING, SAME_WORD
from services.contracts.messages import Mark

OUTSIDE = "O"


def marks(scores: NDArray[np.float32], continues: Sequence[int], tags: Sequence[str]) -> list[Mark]:
    """The slots of a sentence from left to right.

    scores: [tokens, tags], padding left out or behind; continues: see `slots.continues`; tags: their names, as the card
    has them. Raises ValueError when there are fewer scores than tokens, or other tags.
    """
    if scores.ndim != 2 or scores.shape[0] < len(continues) or scores.shape[1] != len(tags):
        raise ValueError(
            f"scores of shape {scores.shape} do not fit {len(continues)} tokens and {len(tags)} tags; "
            "give one sentence, with the tags of the card of the model that scored it"
        )
    seen = [at for at, what in enumerate(continues) if what != NOTHING]
    best = best_row(scores[seen], [continues[at] == SAME_WORD for at in seen], tags)
    return read_row([tags[number] for number in best], seen)


def read_row(row: Sequence[str], tokens: Sequence[int]) -> list[Mark]:
    """The slots that a row of tags marks, one tag for each of `tokens`, which are numbers of tokens. An I- that
    continues nothing of its type begins a slot, as seqeval reads it outside its strict mode."""
    found: list[Mark] = []
    before = OUTSIDE
    for at, tag in zip(tokens, row, strict=True):
        place, _, kind = tag.partition("-")
        if place == "I" and before in (f"B-{kind}", f"I-{kind}"):
            found[-1].last = at
        elif place in ("B", "I"):
            found.append(Mark(kind, at, at))
        before = tag
    return found


def best_row(scores: NDArray[np.float32], glued: Sequence[bool], tags: Sequence[str]) -> list[int]:
    """The row of tags, as numbers, with the largest sum of `scores` [tokens, tags] among those that BIO allows (Viterbi
    1967 with transitions that are free or forbidden). glued: True where a token continues the word before it."""
    index = {tag: at for at, tag in enumerate(tags)}
    outside = index[OUTSIDE]
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
