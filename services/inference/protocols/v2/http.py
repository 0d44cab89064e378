"""The Open Inference Protocol, version 2, over HTTP, with the binary tensor extension.

https://github.com/kserve/open-inference-protocol and Triton's binary extension: a body is JSON, of the length that
`Inference-Header-Content-Length` says, and behind it the bytes of the tensors that say `binary_data_size`. What a model
takes and gives is in `infer`.
Errors are RFC 9457 documents with the protocol's `error` in them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from services.common import VERSION
from services.common.asgi import Receive, Scope, Send, header_text, read_body, send_json
from services.common.decode import decode
from services.inference.protocols.v2 import models
from services.inference.protocols.v2.body import read
from services.inference.protocols.v2.infer import infer
from services.inference.protocols.v2.tensors import to_bytes
from services.inference.texts import Texts

LENGTH = b"inference-header-content-length"
ALSO = {"also_takes": "text BYTES [-1]", "also_gives": "intent BYTES [-1], score FP32 [-1]"}

_encoder = msgspec.json.Encoder()


class Server:
    """Everything below `/v2`."""

    def __init__(self, texts: Texts, max_body_bytes: int) -> None:
        self._texts = texts
        self._max_body_bytes = max_body_bytes

    async def about(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`GET /v2`."""
        await _json(send, {"name": models.NAME, "version": VERSION, "extensions": models.EXTENSIONS})

    async def live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`GET /v2/health/live`."""
        await _json(send, {"live": True})

    async def ready(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`GET /v2/health/ready`: whether what is pinned answers."""
        ready = self._texts.repository.ready
        await _json(send, {"ready": ready}, 200 if ready else 503)

    async def model_ready(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`GET /v2/models/{model}/ready`: whether it is in memory."""
        key = models.key(self._texts, *_named(scope))
        ready = models.ready(self._texts, key)
        await _json(send, {"name": key, "ready": ready}, 200 if ready else 503)

    async def model(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`GET /v2/models/{model}`: its tensors; it is loaded for that where it is not."""
        about = await models.about(self._texts, *_named(scope))
        await _json(send, msgspec.structs.asdict(about) | {"parameters": ALSO})

    async def index(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`POST /v2/repository/index`: every entry and its state."""
        body = await read_body(receive, self._max_body_bytes)
        only_ready = bool(decode(_index, body).ready) if body.strip() else False
        await send_json(send, _encoder.encode(models.index(self._texts, only_ready=only_ready)))

    async def load(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`POST /v2/repository/models/{model}/load`."""
        await read_body(receive, self._max_body_bytes)
        await self._texts.repository.load(models.key(self._texts, *_named(scope)))
        await send_json(send, b"{}")

    async def unload(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`POST /v2/repository/models/{model}/unload`."""
        await read_body(receive, self._max_body_bytes)
        await self._texts.repository.unload(models.key(self._texts, *_named(scope)))
        await send_json(send, b"{}")

    async def infer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`POST /v2/models/{model}/infer`."""
        body = await read_body(receive, self._max_body_bytes)
        request, tensors = read(body, header_text(scope, LENGTH))
        name, version = _named(scope)
        found = await infer(self._texts, name, version, tensors, [output.name for output in request.outputs])
        outputs, tail = [], b""
        for head, values in found.outputs:
            told: dict[str, Any] = msgspec.structs.asdict(head)
            if request.binary(head.name):
                content = to_bytes(values, head.datatype)
                told["parameters"] = {"binary_data_size": len(content)}
                tail += content
            else:
                told["data"] = values.reshape(-1).tolist()
            outputs.append(told)
        answer = _encoder.encode(
            {
                "model_name": name,
                "model_version": found.version,
                **({"id": request.id} if request.id else {}),
                "outputs": outputs,
            }
        )
        if not tail:
            await send_json(send, answer)
            return
        await _binary(send, answer, tail)


class _Index(msgspec.Struct):
    ready: bool = False


_index = msgspec.json.Decoder(_Index)


def _named(scope: Scope) -> tuple[str, str | None]:
    """The model of the path, and its version where the path has one."""
    params = scope["path_params"]
    return params["model"], params.get("version")


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
