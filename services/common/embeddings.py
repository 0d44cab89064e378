"""What the public `openai` client asks of embeddings and gets: `POST /v1/embeddings`, with or without a mesh.

https://platform.openai.com/docs/api-reference/embeddings. `input` is a text, texts, a list of token ids, or lists of
them. A vector travels as its bytes, little-endian float32, in base64.
"""

from __future__ import annotations

import base64
import math
import sys
from array import array
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from services.common.problems import Problem

FLOAT_BYTES = 4


class EmbeddingsRequest(msgspec.Struct):
    """The body. Members that we do not know are ignored, as clients grow more of them."""

    input: Annotated[str | list[Any], Meta(examples=["turn on the light", ["one", "another"]])]
    model: Annotated[str, Meta(examples=["intent.mini"])]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Meta(ge=1)] | None = None


class Vector(msgspec.Struct):
    """The vector of an input: numbers, or their bytes in base64."""

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


def inputs_of(given: Any, most: int) -> list[str | list[int]]:
    """Texts or token ids, one for each vector. Raises a 400 `Problem` that names the input."""
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


def dimensions_of(wanted: EmbeddingsRequest, features: int, key: str) -> int:
    """How many numbers a vector shall have. Raises the 400 `Problem` of more than the model `key` has."""
    if wanted.dimensions is not None and wanted.dimensions > features:
        raise Problem(
            400, "out-of-range", "Out of range",
            f"dimensions: {wanted.dimensions}, but {key} has {features}", field="dimensions",
        )  # fmt: skip
    return wanted.dimensions or features


def written(vector: bytes, dimensions: int, form: str) -> str | list[float]:
    """The first `dimensions` numbers of a vector, little-endian float32, of length 1 again; as numbers or in base64."""
    if dimensions * FLOAT_BYTES == len(vector):
        if form == "base64":
            return base64.b64encode(vector).decode()
        return _numbers(vector).tolist()
    shorter = _numbers(vector[: dimensions * FLOAT_BYTES])
    length = max(math.sqrt(sum(number * number for number in shorter)), 1e-12)
    scaled = array("f", (number / length for number in shorter))
    if form != "base64":
        return scaled.tolist()
    if sys.byteorder == "big":
        scaled.byteswap()
    return base64.b64encode(scaled.tobytes()).decode()


def reply_to(
    wanted: EmbeddingsRequest, vectors: list[bytes], dimensions: int, key: str, tokens: int
) -> EmbeddingsReply:
    """The answer with these vectors, of the model `key`, which read so many tokens."""
    data = [
        Vector(at, written(vector, dimensions, wanted.encoding_format)) for at, vector in enumerate(vectors)
    ]
    return EmbeddingsReply(data, key, Usage(tokens, tokens))


def at_input(problem: Problem, at: int) -> Problem:
    """The problem of one input as that of the call: the protocol has no place for the error of one."""
    return Problem(
        problem.status, problem.slug, problem.title, f"input[{at}]: {problem.detail}", problem.retry_after_s,
        field=f"input[{at}]",
    )  # fmt: skip


def with_error(problem: Problem) -> Problem:
    """The problem with the `error` object that OpenAI's clients read."""
    kind = "invalid_request_error" if problem.status < 500 else "server_error"
    problem.ext["error"] = {
        "message": problem.detail, "type": kind, "param": problem.ext.get("field"), "code": problem.slug,
    }  # fmt: skip
    return problem


def _numbers(vector: bytes) -> array[float]:
    numbers = array("f")
    numbers.frombytes(vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
