"""What the public `openai` client asks of embeddings: `POST /v1/embeddings`, `GET /v1/models`.

A model embeds that has an output `embedding`. Errors are RFC 9457 documents with OpenAI's `error` object in them.
"""

from __future__ import annotations

import msgspec

from services.common.asgi import Receive, Scope, Send, read_body, send_json
from services.common.decode import decode
from services.common.embeddings import EmbeddingsRequest, at_input, dimensions_of, inputs_of, reply_to
from services.inference.model import EMBEDDING, Query, Ran
from services.inference.outcomes import problem_of
from services.inference.texts import Texts

OWNER = "foremesh"


class ModelAbout(msgspec.Struct):
    """An entry of the catalog; `version` to `loaded` are not OpenAI's."""

    id: str
    version: str
    task: str
    size_mb: float
    classes: int
    loaded: bool
    object: str = "model"
    created: int = 0
    owned_by: str = OWNER


class ModelList(msgspec.Struct):
    """All of them."""

    data: list[ModelAbout]
    object: str = "list"


_wanted = msgspec.json.Decoder(EmbeddingsRequest)
_encoder = msgspec.json.Encoder()


class Embeddings:
    """The route, over the models that answer it."""

    def __init__(self, texts: Texts, max_body_bytes: int) -> None:
        self._texts = texts
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with a vector for each input, in order. One that the model cannot read fails the call: the protocol
        has no place for the error of one."""
        wanted = decode(_wanted, await read_body(receive, self._max_body_bytes))
        inputs = inputs_of(wanted.input, self._texts.max_items)
        held = await self._texts.take(wanted.model, (EMBEDDING,))
        try:
            dimensions = dimensions_of(wanted, held.model.outputs[EMBEDDING], held.card.key)
            texts = [one for one in inputs if isinstance(one, str)]
            cut = iter(await self._texts.encode(held, texts) if texts else ())
            ids = [next(cut) if isinstance(one, str) else one for one in inputs]
            outcomes = await self._texts.run(held, [Query(row, 1, (EMBEDDING,)) for row in ids])
        finally:
            self._texts.repository.leave(held)
        vectors = []
        for at, outcome in enumerate(outcomes):
            if not isinstance(outcome, Ran) or outcome.tensors is None:
                raise at_input(problem_of(outcome), at)
            vectors.append(outcome.tensors[EMBEDDING].astype("<f4").tobytes())
        reply = reply_to(wanted, vectors, dimensions, held.card.key, sum(map(len, ids)))
        await send_json(send, _encoder.encode(reply))


class Models:
    """`GET /v1/models` and `GET /v1/models/{model}`."""

    def __init__(self, texts: Texts) -> None:
        self._texts = texts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """List every entry, or tell of one."""
        cards = self._texts.repository.cards
        named = scope["path_params"].get("model")
        if named is not None:
            await send_json(send, _encoder.encode(self._told(self._texts.key(named))))
            return
        data = [self._told(key) for key in sorted(cards)]
        await send_json(send, _encoder.encode(ModelList(data)))

    def _told(self, key: str) -> ModelAbout:
        repository = self._texts.repository
        card = repository.cards[key]
        return ModelAbout(
            key, card.version, card.task, card.size_mb, len(card.labels), key in repository.held
        )
