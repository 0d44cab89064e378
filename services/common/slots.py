"""The slots of a sentence: where its tokens are in the text, and what a model marked there.

A model marks tokens; a caller wants characters. Whoever has the text tells the model which tokens go on in a word
(`continues`) and turns the marks that come back into characters (`slots_of`).
"""

from __future__ import annotations

from collections.abc import Sequence

from services.contracts.messages import Mark, Slot

NOTHING, NEW_WORD, SAME_WORD = -1, 0, 1
"""What a token is: none of the text, such as [CLS]; the begin of a word; more of the word before it."""

Offsets = Sequence[tuple[int, int]]
"""(start, end) of each token in the text, in characters (code points); (0, 0) where it covers none."""


def continues(offsets: Offsets, text: str) -> list[int]:
    """For each token NOTHING, NEW_WORD or SAME_WORD: nothing between it and the one before, and a letter or a digit on
    both sides."""
    before = 0
    found = []
    for start, end in offsets:
        if start >= end:
            found.append(NOTHING)
            continue
        same = 0 < start == before and text[start - 1].isalnum() and text[start].isalnum()
        found.append(SAME_WORD if same else NEW_WORD)
        before = end
    return found


def slots_of(marks: Sequence[Mark], offsets: Offsets, text: str) -> list[Slot]:
    """The marks as characters of the text, from left to right."""
    found = []
    for mark in marks:
        start, end = offsets[mark.first][0], offsets[mark.last][1]
        found.append(Slot(mark.type, text[start:end], start, end))
    return found


def behind(slots: Sequence[Slot], characters: int) -> list[Slot]:
    """The same slots of a text with so many characters before it, such as white space that was left out."""
    return [Slot(slot.type, slot.value, slot.start + characters, slot.end + characters) for slot in slots]
