"""From the scores of the tags to the spans of a sentence, by the very code that serves them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.slots.annotations import Span
from services.common.slots import Offsets, continues, slots_of
from services.common.tags import marks


def decode(scores: NDArray[np.float32], offsets: Offsets, text: str, tags: Sequence[str]) -> list[Span]:
    """The spans of `text` from left to right. scores: [tokens, tags], padding left out or behind. Raises as `marks`
    does."""
    found = marks(scores, continues(offsets, text), tags)
    return [Span(slot.type, slot.start, slot.end) for slot in slots_of(found, offsets, text)]
