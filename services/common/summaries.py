"""`POST /v1/summaries`, with or without a mesh: the sentences at the centre of a text, in its order (extractive)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from services.common.problems import Problem

MAX_CHARACTERS = 100_000
END = re.compile(r"(?<=[.!?…])\s+(?=[^a-z\s])|(?<=[.!?…][\"')\]])\s+(?=[^a-z\s])|\n\s*\n")
"""Where a sentence ends: behind a stop, before what is no small letter; or at an empty line."""


class SummaryRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body. sentences: how many to take; model: one that embeds, `<model>` or `<model>.<tier>`."""

    text: Annotated[
        str, Meta(examples=["It rained all day. The river rose. A bridge was closed. Nobody was hurt."])
    ]
    sentences: Annotated[int, Meta(ge=1, le=100)] = 3
    model: str = "intent.mini"


class Sentence(msgspec.Struct):
    """A sentence of the summary, and which one of the text it is, from 0."""

    text: str
    position: int


class Summary(msgspec.Struct):
    """The answer. of: sentences of the text; milliseconds in `timings_ms`."""

    summary: str
    sentences: list[Sentence]
    of: int
    model: str
    tier: str
    version: str
    timings_ms: dict[str, float]


def split(text: str, most: int) -> list[str]:
    """The sentences of a text, white space within them made one blank. Raises a `Problem` where there are none, or more
    than `most`, or the text is too long."""
    if len(text) > MAX_CHARACTERS:
        raise Problem(
            413, "text-too-long", "Text too long",
            f"text: has {len(text)} characters; at most {MAX_CHARACTERS} are read", field="text",
        )  # fmt: skip
    found = sentences(text)
    if not 1 <= len(found) <= most:
        slug, title = ("out-of-range", "Out of range") if found else ("empty-text", "Empty text")
        raise Problem(
            400, slug, title, f"text: has {len(found)} sentences; 1 to {most} are read", field="text",
        )  # fmt: skip
    return found


def sentences(text: str) -> list[str]:
    """The sentences of a text, white space within them made one blank."""
    parts = [" ".join(part.split()) for part in END.split(text)]
    return [part for part in parts if part]


def summary_of(
    found: Sequence[str], chosen: Sequence[int], model: str, tier: str, version: str, total_ms: float
) -> Summary:
    """The answer with the sentences at these places."""
    return Summary(
        " ".join(found[at] for at in chosen),
        [Sentence(found[at], at) for at in chosen],
        len(found),
        model,
        tier,
        version,
        {"total": round(total_ms, 3)},
    )
