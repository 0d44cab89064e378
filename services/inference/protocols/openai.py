"""What the public `openai` client asks of embeddings: `POST /v1/embeddings`, `GET /v1/models`.

https://platform.openai.com/docs/api-reference/embeddings. `input` is a text, texts, a list of token ids, or lists of
them. A model embeds that has an output `embedding`. Errors are RFC 9457 documents with OpenAI's `error` object in them.
"""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from services.common.asgi import Receive, Scope, Send, read_body, send_json
from services.common.decode import decode
from services.common.problems import Problem
from services.inference.model import Query, Ran
from services.inference.texts import Texts, problem_of

EMBEDDING = "embedding"
OWNER = "foremesh"


class EmbeddingsRequest(msgspec.Struct):
    """The body. Members that we do not know are ignored, as clients grow more of them."""

    input: Annotated[str | list[Any], Meta(examples=["turn on the light", ["one", "another"]])]
    model: Annotated[str, Meta(examples=["intent.mini"])]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Meta(ge=1)] | None = None


class Vector(msgspec.Struct):
    """The vector of an input: numbers, or their bytes as little-endian float32 in base64."""

    index: int
    embedding: str | list[float]
    object: str = "embedding"


class Usage(msgspec.Struct):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsReply(msgspec.Struct):
    """A vector for each input, in order."""

    data: list[Vector]
    model: str
    usage: Usage
    object: str = "list"


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
        inputs = _inputs(wanted.input, self._texts.max_items)
        held = await self._texts.take(wanted.model, (EMBEDDING,))
        try:
            features = held.model.outputs[EMBEDDING]
            if wanted.dimensions is not None and wanted.dimensions > features:
                raise Problem(
                    400, "out-of-range", "Out of range",
                    f"dimensions: {wanted.dimensions}, but {held.card.key} has {features}", field="dimensions",
                )  # fmt: skip
            texts = [one for one in inputs if isinstance(one, str)]
            cut = iter(await self._texts.encode(held, texts) if texts else ())
            ids = [next(cut) if isinstance(one, str) else one for one in inputs]
            outcomes = await self._texts.run(held, [Query(row, 1, (EMBEDDING,)) for row in ids])
        finally:
            self._texts.repository.leave(held)
        data = []
        for at, outcome in enumerate(outcomes):
            if not isinstance(outcome, Ran) or outcome.tensors is None:
                raise _at(problem_of(outcome), at)
            vector = _shortened(outcome.tensors[EMBEDDING], wanted.dimensions)
            data.append(Vector(at, _written(vector, wanted.encoding_format)))
        tokens = sum(map(len, ids))
        reply = EmbeddingsReply(data, held.card.key, Usage(tokens, tokens))
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


def _inputs(given: Any, most: int) -> list[str | list[int]]:
    """Texts or token ids, one for each vector."""
    if isinstance(given, str):
        found: list[str | list[int]] = [given]
    elif isinstance(given, list) and given and all(_is_id(one) for one in given):
        found = [given]
    elif isinstance(given, list):
        found = list(given)
    else:
        found = []
    if not 1 <= len(found) <= most:
        raise Problem(
            400, "out-of-range", "Out of range", f"input: {len(found)} inputs in one call; 1 to {most} are taken",
            field="input",
        )  # fmt: skip
    for at, one in enumerate(found):
        if isinstance(one, str):
            if not one.strip():
                raise Problem(400, "empty-text", "Empty text", f"input[{at}] is empty", field=f"input[{at}]")
        elif not (isinstance(one, list) and one and all(_is_id(number) for number in one)):
            raise Problem(
                400, "wrong-type", "Wrong type", f"input[{at}] is neither a text nor a list of token ids",
                field=f"input[{at}]",
            )  # fmt: skip
    return found


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _shortened(vector: NDArray[np.float32], dimensions: int | None) -> NDArray[np.float32]:
    """The first `dimensions` of a vector, of length 1 again."""
    if dimensions is None or dimensions == len(vector):
        return vector
    shorter = vector[:dimensions]
    return np.asarray(shorter / max(float(np.linalg.norm(shorter)), 1e-12), np.float32)


def _written(vector: NDArray[np.float32], form: str) -> str | list[float]:
    little = vector.astype("<f4")
    return base64.b64encode(little.tobytes()).decode() if form == "base64" else little.tolist()


def _at(problem: Problem, at: int) -> Problem:
    return Problem(
        problem.status, problem.slug, problem.title, f"input[{at}]: {problem.detail}", problem.retry_after_s,
        field=f"input[{at}]",
    )  # fmt: skip
