"""The Open Inference Protocol, version 2, over gRPC, with `grpc.health.v1` beside it: inference.proto's service.

A message becomes what `infer` and `models` take, as a body does over HTTP. An error has the canonical code for HTTP's
status, and as its text the `detail` of HTTP's problem document.

grpc.aio needs no more of a loop than `add_reader`: a thread of its own polls the connections and wakes the loop by a
pair of sockets. So it runs in uvloop, beside HTTP, and the models are asked from the one loop that they know.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
import msgspec
from google.protobuf.message import DecodeError, Message
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from services.common import VERSION, problems
from services.common.logs import logger
from services.common.problems import Problem
from services.common.serving import DRAIN_S, KEEPALIVE_S
from services.inference.protocols.v2 import inference_pb2 as pb
from services.inference.protocols.v2 import messages, models
from services.inference.protocols.v2.infer import infer
from services.inference.texts import Texts

log = logger("foremesh.inference")

SERVICE = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"
CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto; of any other status INTERNAL."""
MAX_TEXT_BYTES = 2000
"""Of an error's text: it travels in a header, which is three times as long where it is not ASCII, and a client takes 8
KiB of headers."""

Context = grpc.aio.ServicerContext
Asked = TypeVar("Asked", bound=Message)


class Listener:
    """Answers gRPC on an address, for `serving.run`: `start`, `listen` until `end` is called, `stop`.

    max_message_bytes: of a request, compressed or not; max_calls: at the same time, as many connections at most.
    """

    def __init__(self, texts: Texts, host: str, port: int, *, max_message_bytes: int, max_calls: int) -> None:
        self._texts = texts
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._max_message_bytes = max_message_bytes
        self._max_calls = max_calls
        self._server: grpc.aio.Server | None = None
        self._ended = asyncio.Event()

    async def start(self) -> None:
        """Answer from now on, in the running loop. Raises OSError where the address cannot be listened on."""
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", self._max_message_bytes),
                ("grpc.max_allowed_incoming_connections", self._max_calls),
                ("grpc.max_connection_idle_ms", KEEPALIVE_S * 1000),
                # Else a second process on the same port takes a part of the calls instead of an error.
                ("grpc.so_reuseport", 0),
            ],
            maximum_concurrent_rpcs=self._max_calls,
        )
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(SERVICE, self._service()),
                # Without `Watch`, whose absence clients take for health that is not watched: who probes asks `Check`.
                grpc.method_handlers_generic_handler(
                    HEALTH, {"Check": _method(HealthCheckRequest, self._check)}
                ),
            )
        )
        try:
            server.add_insecure_port(self._address)
        except RuntimeError:  # which does not say why
            raise OSError(
                f"gRPC cannot listen on {self._address}: the port is in use, or the address is not this machine's; "
                "choose another --grpc-port or --host"
            ) from None
        await server.start()
        self._server = server

    async def listen(self) -> None:
        """Wait for `end`, then drain as `stop` does."""
        await self._ended.wait()
        await self.stop()

    def end(self) -> None:
        """Let `listen` come to its end."""
        self._ended.set()

    async def stop(self) -> None:
        """Take no further calls, and end what is in after DRAIN_S seconds at most."""
        if self._server is not None:
            await self._server.stop(DRAIN_S)

    def _service(self) -> dict[str, grpc.RpcMethodHandler[bytes, bytes]]:
        return {
            "ServerLive": _method(pb.ServerLiveRequest, self._live),
            "ServerReady": _method(pb.ServerReadyRequest, self._ready),
            "ServerMetadata": _method(pb.ServerMetadataRequest, self._about),
            "ModelReady": _method(pb.ModelReadyRequest, self._model_ready),
            "ModelMetadata": _method(pb.ModelMetadataRequest, self._model),
            "ModelInfer": _method(pb.ModelInferRequest, self._infer),
            "RepositoryIndex": _method(pb.RepositoryIndexRequest, self._index),
            "RepositoryModelLoad": _method(pb.RepositoryModelLoadRequest, self._load),
            "RepositoryModelUnload": _method(pb.RepositoryModelUnloadRequest, self._unload),
        }

    async def _live(self, request: pb.ServerLiveRequest, left_s: float | None) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def _ready(self, request: pb.ServerReadyRequest, left_s: float | None) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=self._texts.repository.ready)

    async def _about(
        self, request: pb.ServerMetadataRequest, left_s: float | None
    ) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(name=models.NAME, version=VERSION, extensions=models.EXTENSIONS)

    async def _model_ready(
        self, request: pb.ModelReadyRequest, left_s: float | None
    ) -> pb.ModelReadyResponse:
        key = models.key(self._texts, request.name, request.version)
        return pb.ModelReadyResponse(ready=models.ready(self._texts, key))

    async def _model(
        self, request: pb.ModelMetadataRequest, left_s: float | None
    ) -> pb.ModelMetadataResponse:
        about = await models.about(self._texts, request.name, request.version)
        return pb.ModelMetadataResponse(**msgspec.to_builtins(about))

    async def _infer(self, request: pb.ModelInferRequest, left_s: float | None) -> pb.ModelInferResponse:
        outputs = [output.name for output in request.outputs]
        tensors = messages.read(request)
        found = await infer(self._texts, request.model_name, request.model_version, tensors, outputs, left_s)
        return messages.answer(request, found)

    async def _index(
        self, request: pb.RepositoryIndexRequest, left_s: float | None
    ) -> pb.RepositoryIndexResponse:
        rows = models.index(self._texts, only_ready=request.ready)
        return pb.RepositoryIndexResponse(models=[msgspec.to_builtins(row) for row in rows])

    async def _load(
        self, request: pb.RepositoryModelLoadRequest, left_s: float | None
    ) -> pb.RepositoryModelLoadResponse:
        await self._texts.repository.load(models.key(self._texts, request.model_name, None))
        return pb.RepositoryModelLoadResponse()

    async def _unload(
        self, request: pb.RepositoryModelUnloadRequest, left_s: float | None
    ) -> pb.RepositoryModelUnloadResponse:
        await self._texts.repository.unload(models.key(self._texts, request.model_name, None))
        return pb.RepositoryModelUnloadResponse()

    async def _check(self, request: HealthCheckRequest, left_s: float | None) -> HealthCheckResponse:
        if request.service not in ("", SERVICE):
            raise problems.not_found(f"there is no service {request.service[:64]!r}; there is {SERVICE}")
        ready = self._texts.repository.ready
        return HealthCheckResponse(
            status=HealthCheckResponse.SERVING if ready else HealthCheckResponse.NOT_SERVING
        )


def _method(
    kind: type[Asked], answer: Callable[[Asked, float | None], Awaitable[Message]]
) -> grpc.RpcMethodHandler[bytes, bytes]:
    """The method that takes `kind`, answered by `answer`, which is told the seconds that the caller leaves.

    The bytes are read here: gRPC answers what it cannot read with the exception's own text.
    """

    async def call(content: bytes, context: Context[bytes, bytes]) -> bytes:
        try:
            try:
                request = kind.FromString(content)
            except DecodeError:
                raise Problem(
                    400,
                    "bad-message",
                    "Bad message",
                    f"the message cannot be read as {kind.DESCRIPTOR.full_name}",
                ) from None
            return (await answer(request, context.time_remaining())).SerializeToString()
        except Problem as error:
            problem = error
        except Exception:
            log.exception("call failed", extra={"message_of": kind.DESCRIPTOR.full_name})
            problem = problems.internal()
        return await _refuse(context, problem)

    return grpc.unary_unary_rpc_method_handler(call)


async def _refuse(context: Context[Any, Any], problem: Problem) -> bytes:
    """End the call with the problem, and with when to try again where that is known, as gRPC's own retries read it."""
    text = problem.detail.encode()[:MAX_TEXT_BYTES].decode(errors="ignore")
    again = problem.retry_after_s
    metadata = () if again is None else (("grpc-retry-pushback-ms", str(round(again * 1000))),)
    await context.abort(CODES.get(problem.status, grpc.StatusCode.INTERNAL), text, metadata)
