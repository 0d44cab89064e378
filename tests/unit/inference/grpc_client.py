"""A client of the v2 protocol over gRPC, and a real server on a free port for it, in the kind of loop that serves."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import grpc
import numpy as np
import pytest
import uvloop
from google.protobuf.message import Message

from services.inference.protocols.v2 import inference_pb2 as pb
from services.inference.standalone import Options, Standalone
from tests.unit.routing.processes import free_port

Answer = TypeVar("Answer", bound=Message)
Tensor = pb.ModelInferRequest.InferInputTensor
Contents = pb.InferTensorContents


class Client:
    """Calls a method by its name, with a request and the kind of its answer."""

    def __init__(self, channel: grpc.aio.Channel, port: int) -> None:
        self.port = port
        self._channel = channel

    async def ask(
        self,
        method: str,
        request: Message | bytes,
        kind: type[Answer],
        *,
        timeout_s: float = 20.0,
        compression: grpc.Compression | None = None,
    ) -> Answer:
        path = method if method.startswith("/") else f"/inference.GRPCInferenceService/{method}"
        content = request if isinstance(request, bytes) else request.SerializeToString()
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(path)
        return kind.FromString(await call(content, timeout=timeout_s, compression=compression))

    async def infer(self, request: pb.ModelInferRequest, **more: Any) -> pb.ModelInferResponse:
        return await self.ask("ModelInfer", request, pb.ModelInferResponse, **more)

    async def refused(
        self, request: Message | bytes, method: str = "ModelInfer", **more: Any
    ) -> grpc.aio.AioRpcError:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await self.ask(method, request, pb.ModelInferResponse, **more)
        return error.value


Test = Callable[[Client, Standalone], Awaitable[None]]


def serving(catalog: Path, test: Test, *, kind: type[Standalone] = Standalone, **options: Any) -> None:
    async def main() -> None:
        port = free_port()
        app = kind(Options(catalog=str(catalog), preload=("intent.tiny",), grpc_port=port, **options))
        async with (
            asyncio.timeout(60),
            app.running(),
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):
            await test(Client(channel, port), app)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop go on until the condition holds, for 20 s at most."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


def typed(*rows: Sequence[int], model: str = "intent.tiny", **more: Any) -> pb.ModelInferRequest:
    """A request with the ids as values."""
    longest = max(map(len, rows))
    flat = [each for row in rows for each in [*row, *[0] * (longest - len(row))]]
    lengths = Contents(int64_contents=[len(row) for row in rows])
    inputs = [
        Tensor(
            name="ids", datatype="INT64", shape=[len(rows), longest], contents=Contents(int64_contents=flat)
        ),
        Tensor(name="lengths", datatype="INT64", shape=[len(rows)], contents=lengths),
    ]
    return pb.ModelInferRequest(model_name=model, inputs=inputs, **more)


def raw(*rows: Sequence[int], **more: Any) -> pb.ModelInferRequest:
    """A request with the ids as bytes."""
    request = typed(*rows, **more)
    for tensor in request.inputs:
        request.raw_input_contents.append(np.array(tensor.contents.int64_contents, "<i8").tobytes())
        tensor.ClearField("contents")
    return request


def text(*texts: str, as_bytes: bool = False) -> pb.ModelInferRequest:
    """A request with texts, for intents and scores."""
    encoded = [one.encode() for one in texts]
    tensor = Tensor(name="text", datatype="BYTES", shape=[len(texts)])
    request = pb.ModelInferRequest(
        model_name="intent", outputs=[{"name": "intent"}, {"name": "score"}], inputs=[tensor]
    )
    if as_bytes:
        request.raw_input_contents.append(b"".join(struct.pack("<I", len(one)) + one for one in encoded))
    else:
        request.inputs[0].contents.bytes_contents.extend(encoded)
    return request
