"""The Open Inference Protocol, version 2, over HTTP, with the binary tensor extension.

https://github.com/kserve/open-inference-protocol and Triton's binary extension: a body is JSON, of the length that
`Inference-Header-Content-Length` says, and behind it the bytes of the tensors that say `binary_data_size`.

A model is `<model>` (its preferred tier) or `<model>.<tier>`. It takes the tensors `ids` INT64 [batch, tokens] and
`lengths` INT64 [batch], or `text` BYTES [batch]; it gives `logits` FP32 [batch, classes], what else its file
gives, with a row for each item, and `intent` BYTES and `score` FP32, both [batch]. Rows of a request run with those of
others.
Errors are RFC 9457 documents with the protocol's `error` in them.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.common import VERSION
from services.common.asgi import Receive, Scope, Send, header_text, read_body, send_json
from services.common.decode import decode
from services.common.problems import Problem
from services.inference.model import Query, Ran
from services.inference.texts import TextHeld, Texts, problem_of

LENGTH = b"inference-header-content-length"
TYPES: dict[str, str] = {"INT64": "<i8", "INT32": "<i4", "FP32": "<f4"}
EXTENSIONS = ["binary_tensor_data", "model_repository"]
MAX_ELEMENTS = 1 << 20


class Parameters(msgspec.Struct):
    """Parameters of a tensor or a request that mean something here; others are ignored."""

    binary_data_size: int | None = None
    binary_data: bool | None = None
    binary_data_output: bool | None = None


class Tensor(msgspec.Struct):
    """A tensor of a request: `data` in row-major order, nested or flat, or as many bytes behind the JSON."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | None = None
    parameters: Parameters = msgspec.field(default_factory=Parameters)


class Output(msgspec.Struct):
    """An output that is wanted."""

    name: str
    parameters: Parameters = msgspec.field(default_factory=Parameters)


class InferRequest(msgspec.Struct):
    """The JSON part of `POST /v2/models/{model}/infer`."""

    inputs: list[Tensor]
    id: str = ""
    outputs: list[Output] = []
    parameters: Parameters = msgspec.field(default_factory=Parameters)


_requests = msgspec.json.Decoder(InferRequest)
_encoder = msgspec.json.Encoder()


class Server:
    """Everything below `/v2`; `answer` is called with the name of what is asked."""

    def __init__(self, texts: Texts, max_body_bytes: int) -> None:
        self._texts = texts
        self._max_body_bytes = max_body_bytes

    async def about(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`GET /v2`."""
        await _json(send, {"name": "foremesh", "version": VERSION, "extensions": EXTENSIONS})

    async def live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`GET /v2/health/live`."""
        await _json(send, {"live": True})

    async def ready(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`GET /v2/health/ready`: whether what is pinned answers."""
        ready = self._texts.repository.ready
        await _json(send, {"ready": ready}, 200 if ready else 503)

    async def model_ready(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`GET /v2/models/{model}/ready`: whether it is in memory."""
        key = self._key(scope)
        ready = key in self._texts.repository.held
        await _json(send, {"name": key, "ready": ready}, 200 if ready else 503)

    async def model(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`GET /v2/models/{model}`: its tensors; it is loaded for that where it is not."""
        key = self._key(scope)
        held = await self._texts.take(key)
        try:
            outputs = [
                {"name": name, "datatype": "FP32", "shape": [-1, size]}
                for name, size in held.model.outputs.items()
            ]
            await _json(
                send,
                {
                    "name": scope["path_params"]["model"],
                    "versions": [held.card.version],
                    "platform": "onnxruntime_onnx",
                    "inputs": [
                        {"name": "ids", "datatype": "INT64", "shape": [-1, -1]},
                        {"name": "lengths", "datatype": "INT64", "shape": [-1]},
                    ],
                    "outputs": outputs,
                    "parameters": {
                        "also_takes": "text BYTES [-1]",
                        "also_gives": "intent BYTES [-1], score FP32 [-1]",
                    },
                },
            )
        finally:
            self._texts.repository.leave(held)

    async def index(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`POST /v2/repository/index`: every entry and its state."""
        body = await read_body(receive, self._max_body_bytes)
        only_ready = bool(decode(_index, body).ready) if body.strip() else False
        repository = self._texts.repository
        rows = []
        for key in sorted({*repository.cards, *repository.broken}):
            held = repository.held.get(key)
            card = repository.cards.get(key)
            if only_ready and held is None:
                continue
            rows.append(
                {
                    "name": key,
                    "version": card.version if card else "",
                    "state": "READY" if held else "UNAVAILABLE",
                    "reason": repository.broken.get(key, "" if held else "not loaded"),
                }
            )
        await send_json(send, _encoder.encode(rows))

    async def load(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`POST /v2/repository/models/{model}/load`."""
        await read_body(receive, self._max_body_bytes)
        await self._texts.repository.load(self._key(scope))
        await send_json(send, b"{}")

    async def unload(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`POST /v2/repository/models/{model}/unload`."""
        await read_body(receive, self._max_body_bytes)
        await self._texts.repository.unload(self._key(scope))
        await send_json(send, b"{}")

    async def infer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`POST /v2/models/{model}/infer`."""
        body = await read_body(receive, self._max_body_bytes)
        request, tensors = _read(body, header_text(scope, LENGTH))
        held = await self._texts.take(self._key(scope))
        try:
            wanted = _wanted(held, request)
            rows = await self._rows(held, tensors)
            raw = tuple(name for name in wanted if name not in ("intent", "score"))
            outcomes = await self._texts.run(held, [Query(row, 1, raw) for row in rows])
        finally:
            self._texts.repository.leave(held)
        for at, outcome in enumerate(outcomes):
            if not isinstance(outcome, Ran):
                problem = problem_of(outcome)
                problem.detail = f"item {at}: {problem.detail}"
                raise problem
        ran = [outcome for outcome in outcomes if isinstance(outcome, Ran)]
        binary = {
            output.name: request.parameters.binary_data_output
            if output.parameters.binary_data is None
            else output.parameters.binary_data
            for output in request.outputs
        }
        outputs, tail = [], b""
        for name in wanted:
            found, datatype = _output(name, ran)
            told: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(found.shape)}
            if binary.get(name, request.parameters.binary_data_output):
                content = _bytes_of(found, datatype)
                told["parameters"] = {"binary_data_size": len(content)}
                tail += content
            else:
                told["data"] = found.reshape(-1).tolist()
            outputs.append(told)
        answer = _encoder.encode(
            {
                "model_name": scope["path_params"]["model"],
                "model_version": held.card.version,
                **({"id": request.id} if request.id else {}),
                "outputs": outputs,
            }
        )
        if not tail:
            await send_json(send, answer)
            return
        await _binary(send, answer, tail)

    async def _rows(self, held: TextHeld, tensors: dict[str, NDArray[Any]]) -> list[list[int]]:
        """Token ids of each item."""
        names = set(tensors)
        if names == {"text"}:
            texts = tensors["text"].reshape(-1)
            if texts.dtype != object:
                raise _bad("text", "must be BYTES")
            _few(len(texts), self._texts.max_items)
            return await self._texts.encode(held, [str(text) for text in texts])
        if names != {"ids", "lengths"}:
            raise _bad("inputs", f"are {', '.join(sorted(names)) or 'none'}; give ids and lengths, or text")
        rows, lengths = tensors["ids"], tensors["lengths"].reshape(-1)
        if rows.dtype.kind != "i" or lengths.dtype.kind != "i":
            raise _bad("ids", "and lengths must be INT64 or INT32")
        if rows.ndim != 2 or len(lengths) != len(rows):
            shapes = f"{list(rows.shape)} and lengths of {list(tensors['lengths'].shape)}"
            raise _bad("ids", f"is of shape {shapes}; they must be [batch, tokens] and [batch]")
        _few(len(rows), self._texts.max_items)
        if len(rows) and (lengths.min() < 0 or lengths.max() > rows.shape[1]):
            raise _bad("lengths", f"must lie between 0 and the {rows.shape[1]} tokens of ids")
        return [row[:length].tolist() for row, length in zip(rows, lengths.tolist(), strict=True)]

    def _key(self, scope: Scope) -> str:
        """The key of the model of the path. Raises the 404 `Problem` for one that is not there, or a version that is
        not the one there is."""
        params = scope["path_params"]
        key = self._texts.key(params["model"])
        version = params.get("version")
        card = self._texts.repository.cards[key]
        if version is not None and version != card.version:
            raise Problem(
                404, "unknown-version", "Unknown version",
                f"{key} is there in version {card.version}, not {version[:64]!r}", known=[card.version],
            )  # fmt: skip
        return key


class _Index(msgspec.Struct):
    ready: bool = False


_index = msgspec.json.Decoder(_Index)


def _read(body: bytes, length: str | None) -> tuple[InferRequest, dict[str, NDArray[Any]]]:
    """The request and its tensors by name. Raises a 400 `Problem` that names the tensor."""
    size = len(body)
    if length is not None:
        if not length.isascii() or not length.isdigit() or int(length) > len(body):
            raise _bad(
                "inference-header-content-length", f"is {length[:32]!r}; the body has {len(body)} bytes"
            )
        size = int(length)
    request = decode(_requests, body[:size])
    tail, at = memoryview(body)[size:], 0
    found: dict[str, NDArray[Any]] = {}
    for tensor in request.inputs:
        if tensor.name in found:
            raise _bad(tensor.name, "is given twice")
        count = _count(tensor)
        taken = tensor.parameters.binary_data_size
        if taken is not None:
            if taken < 0 or at + taken > len(tail):
                raise _bad(tensor.name, f"says {taken} bytes of binary data; {len(tail) - at} are left")
            flat = _of_bytes(tensor, bytes(tail[at : at + taken]), count)
            at += taken
        elif tensor.data is None:
            raise _bad(tensor.name, "has neither data nor binary_data_size")
        else:
            flat = _of_json(tensor, count)
        found[tensor.name] = flat.reshape(tensor.shape)
    if at != len(tail):
        raise _bad("body", f"has {len(tail) - at} bytes behind the tensors that it names")
    return request, found


def _count(tensor: Tensor) -> int:
    """How many elements its shape says."""
    if not tensor.shape or any(side < 0 for side in tensor.shape):
        raise _bad(tensor.name, f"has the shape {tensor.shape}; each side must be 0 or more")
    count = math.prod(tensor.shape)
    if count > MAX_ELEMENTS:
        raise _bad(tensor.name, f"has {count} elements; at most {MAX_ELEMENTS} are read")
    return count


def _of_bytes(tensor: Tensor, content: bytes, count: int) -> NDArray[Any]:
    if tensor.datatype == "BYTES":
        texts, at = [], 0
        while at < len(content):
            if at + 4 > len(content):
                raise _bad(tensor.name, "ends in the middle of a length")
            (size,) = struct.unpack_from("<I", content, at)
            at += 4
            if at + size > len(content):
                raise _bad(tensor.name, f"says {size} bytes for an element; {len(content) - at} are left")
            texts.append(_text(tensor.name, content[at : at + size]))
            at += size
        if len(texts) != count:
            raise _bad(tensor.name, f"holds {len(texts)} elements; its shape {tensor.shape} says {count}")
        return np.array(texts, dtype=object)
    kind = np.dtype(_type(tensor))
    if len(content) != count * kind.itemsize:
        raise _bad(
            tensor.name, f"has {len(content)} bytes; {count} of {tensor.datatype} are {count * kind.itemsize}"
        )
    return np.frombuffer(content, kind)


def _of_json(tensor: Tensor, count: int) -> NDArray[Any]:
    flat = _flat(tensor.data or [], tensor.name)
    if len(flat) != count:
        raise _bad(tensor.name, f"holds {len(flat)} elements; its shape {tensor.shape} says {count}")
    if tensor.datatype == "BYTES":
        if not all(isinstance(one, str) for one in flat):
            raise _bad(tensor.name, "is BYTES and holds something that is no text")
        return np.array(flat, dtype=object)
    kind = np.dtype(_type(tensor))
    whole = kind.kind == "i"
    for one in flat:
        if isinstance(one, bool) or not isinstance(one, int if whole else int | float):
            raise _bad(tensor.name, f"is {tensor.datatype} and holds {str(one)[:32]!r}")
    try:
        return np.array(flat, kind)
    except OverflowError:
        raise _bad(tensor.name, f"holds a number beyond {tensor.datatype}") from None


def _flat(data: Sequence[Any], name: str, depth: int = 0) -> list[Any]:
    if depth > 8:
        raise _bad(name, "is nested too deeply")
    if not any(isinstance(one, list) for one in data):
        return list(data)
    found: list[Any] = []
    for one in data:
        if not isinstance(one, list):
            raise _bad(name, "mixes numbers and lists")
        found += _flat(one, name, depth + 1)
    return found


def _type(tensor: Tensor) -> str:
    if tensor.datatype not in TYPES:
        raise _bad(
            tensor.name,
            f"is of the datatype {tensor.datatype[:32]!r}; {', '.join((*TYPES, 'BYTES'))} are read",
        )
    return TYPES[tensor.datatype]


def _text(name: str, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise _bad(name, "holds bytes that are no UTF-8") from None


def _few(count: int, most: int) -> None:
    if not 1 <= count <= most:
        raise _bad("inputs", f"hold {count} items; 1 to {most} are taken in one call")


def _wanted(held: TextHeld, request: InferRequest) -> list[str]:
    """Names of the outputs; without any, all that the file has."""
    known = [*held.model.outputs, "intent", "score"]
    named = [output.name for output in request.outputs]
    for name in named:
        if name not in known:
            raise Problem(
                400, "no-such-output", "No such output",
                f"{held.card.key} has no output {name[:64]!r}; it has {', '.join(known)}", known=known,
            )  # fmt: skip
    return named or list(held.model.outputs)


def _output(name: str, ran: Sequence[Ran]) -> tuple[NDArray[Any], str]:
    if name == "intent":
        return np.array([outcome.intent for outcome in ran], dtype=object), "BYTES"
    if name == "score":
        return np.array([outcome.score for outcome in ran], np.float32), "FP32"
    return np.stack([(outcome.tensors or {})[name] for outcome in ran]), "FP32"


def _bytes_of(found: NDArray[Any], datatype: str) -> bytes:
    if datatype != "BYTES":
        return found.astype("<f4").tobytes()
    encoded = [str(one).encode() for one in found.reshape(-1)]
    return b"".join(struct.pack("<I", len(one)) + one for one in encoded)


def _bad(name: str, what: str) -> Problem:
    return Problem(400, "bad-tensor", "Bad tensor", f"{name} {what}", field=name)


async def _json(send: Send, document: dict[str, Any], status: int = 200) -> None:
    await send_json(send, _encoder.encode(document), status)


async def _binary(send: Send, answer: bytes, tail: bytes) -> None:
    headers = [
        (b"content-type", b"application/octet-stream"),
        (LENGTH, str(len(answer)).encode()),
        (b"content-length", str(len(answer) + len(tail)).encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer + tail})
