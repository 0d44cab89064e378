"""What a conversation gives to a turn that says little by itself: "and the bedroom" is asked again with the turn before
it.

Only where a text sounds as if it leaned on something (English), and the model by itself isn't sure of it: "and play
some music" needs nothing of the turn before, and the model knows it at once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from services.contracts.messages import Answer, Slot
from services.routing.sessions import Turn

CERTAIN, LIKELY = 0.9, 0.5
"""Scores from which on a text is taken for what it says by itself: one that sounds as if it leaned, and one that is
only short, such as "stop"."""

WORDS, SHORT = 8, 2
"""Words: more of them say enough by themselves, whatever it sounds like; so few may say too little."""

LEAD = re.compile(
    r"(and|also|or|but|now|then|plus|no|not|with|what about|how about|same|maybe|rather|even|another|one|"
    r"the (one|other|same)|(a )?(bit|little)|(much |some )?(more|less))\b",
    re.IGNORECASE,
)
TAIL = re.compile(r"\b(too|as well|also|instead|again|either|more|less|please)[.?!]*\Z", re.IGNORECASE)


def leans_back(text: str) -> bool:
    """Whether a text sounds as if it leaned on the turn before."""
    return len(text.split()) <= WORDS and bool(LEAD.match(text) or TAIL.search(text))


def wanted(answer: Answer, text: str) -> bool:
    """Whether the turn before may say more of a text than it does itself, which `answer` is to."""
    score = answer.score if answer.in_scope else 0.0
    return (score < CERTAIN and leans_back(text)) or (score < LIKELY and len(text.split()) <= SHORT)


def ground(turns: Sequence[Turn]) -> str | None:
    """The text of the last turn that stood by itself, or that the last one leaned on; None without any."""
    return (turns[-1].context or turns[-1].text) if turns else None


def joined(before: str, text: str) -> str:
    """Both as one text."""
    return f"{before} {text}"


def better(alone: Answer, together: Answer) -> bool:
    """Whether the answer to both texts is to be preferred to the one to the later text by itself."""
    return together.in_scope and (not alone.in_scope or together.score >= alone.score)


def of_the_later(slots: Sequence[Slot], before: str, white_space: int) -> list[Slot]:
    """Slots of both texts as those of the later one, which was sent with so much white space at its begin."""
    first = len(joined(before, ""))
    return [
        Slot(slot.type, slot.value, slot.start - first + white_space, slot.end - first + white_space)
        for slot in slots
        if slot.start >= first
    ]
