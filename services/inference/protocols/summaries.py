"""`POST /v1/summaries`: the sentences at the centre of a text, in its order (extractive).

A model summarises that has an output `embedding`.
"""

from __future__ import annotations

import msgspec
import numpy as np

from services.common.asgi import Receive, Scope, Send, read_body, send_json
from services.common.central import central
from services.common.decode import decode
from services.common.summaries import SummaryRequest, split, summary_of
from services.inference.model import EMBEDDING, Ran
from services.inference.outcomes import problem_of
from services.inference.texts import Texts

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
        found = split(wanted.text, self._texts.max_items)
        asked = await self._texts.ask(wanted.model, found, top_k=1, outputs=(EMBEDDING,))
        for outcome in asked.outcomes:
            if not isinstance(outcome, Ran) or outcome.tensors is None:
                raise problem_of(outcome)
        vectors = np.stack([outcome.tensors[EMBEDDING] for outcome in asked.outcomes])  # type: ignore[attr-defined]
        chosen = central(vectors, wanted.sentences)
        card = asked.card
        told = summary_of(found, chosen, card.model, card.tier, card.version, asked.total_ms)
        await send_json(send, _encoder.encode(told))
