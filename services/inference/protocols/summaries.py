"""`POST /v1/summaries`: the sentences at the centre of a text, in its order (extractive).

A model summarises that has an output `embedding`.
"""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from services.common.asgi import Receive, Scope, Send, read_body, send_json
from services.common.central import central
from services.common.decode import decode
from services.common.problems import Problem
from services.inference.model import Ran
from services.inference.protocols.openai import EMBEDDING
from services.inference.texts import Texts, problem_of

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


_wanted = msgspec.json.Decoder(SummaryRequest)
_encoder = msgspec.json.Encoder()


class Summaries:
    """The route, over the models that answer it."""

    def __init__(self, texts: Texts, max_body_bytes: int) -> None:
        self._texts = texts
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the summary, its sentences and where each stands in the text."""
        wanted = decode(_wanted, await read_body(receive, self._max_body_bytes))
        if len(wanted.text) > MAX_CHARACTERS:
            raise Problem(
                413, "text-too-long", "Text too long",
                f"text: has {len(wanted.text)} characters; at most {MAX_CHARACTERS} are read", field="text",
            )  # fmt: skip
        found = sentences(wanted.text)
        if not 1 <= len(found) <= self._texts.max_items:
            slug, title = ("out-of-range", "Out of range") if found else ("empty-text", "Empty text")
            raise Problem(
                400, slug, title,
                f"text: has {len(found)} sentences; 1 to {self._texts.max_items} are read", field="text",
            )  # fmt: skip
        asked = await self._texts.ask(wanted.model, found, top_k=1, outputs=(EMBEDDING,))
        for outcome in asked.outcomes:
            if not isinstance(outcome, Ran) or outcome.tensors is None:
                raise problem_of(outcome)
        vectors = np.stack([outcome.tensors[EMBEDDING] for outcome in asked.outcomes])  # type: ignore[attr-defined]
        chosen = central(vectors, wanted.sentences)
        card = asked.card
        summary = Summary(
            " ".join(found[at] for at in chosen),
            [Sentence(found[at], at) for at in chosen],
            len(found),
            card.model,
            card.tier,
            card.version,
            {"total": round(asked.total_ms, 3)},
        )
        await send_json(send, _encoder.encode(summary))


def sentences(text: str) -> list[str]:
    """The sentences of a text, white space within them made one blank."""
    parts = [" ".join(part.split()) for part in END.split(text)]
    return [part for part in parts if part]
