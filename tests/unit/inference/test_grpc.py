"""The v2 protocol over gRPC: what it answers, in time, in the order of the queue, and many at once."""

from __future__ import annotations

import asyncio
import struct
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from services.common import VERSION
from services.common.catalog import Card
from services.common.problems import Problem
from services.contracts.messages import InferOutcome
from services.inference.batching import Batcher
from services.inference.model import Model, Query
from services.inference.protocols.v2 import inference_pb2 as pb
from services.inference.protocols.v2.infer import infer
from services.inference.repository import Held
from services.inference.standalone import Options, Standalone
from services.inference.texts import TextHeld
from tests.unit.common.catalog import LABELS, MAX_TOKENS, WORDS, write_entry
from tests.unit.inference.grpc_client import Client, Contents, raw, serving, text, typed, until

Status = grpc.StatusCode


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("catalog")
    write_entry(path)
    return path


def test_the_server_and_its_models_tell_of_themselves(tmp_path: Path) -> None:
    for tier in ("tiny", "mini"):
        write_entry(tmp_path, tier=tier)

    async def test(client: Client, app: Standalone) -> None:
        async def states(only_ready: bool = False) -> dict[str, str]:
            asked = pb.RepositoryIndexRequest(ready=only_ready)
            rows = (await client.ask("RepositoryIndex", asked, pb.RepositoryIndexResponse)).models
            assert {row.version for row in rows} == {"1"}
            return {row.name: row.state for row in rows}

        async def ready(name: str) -> bool:
            return (
                await client.ask("ModelReady", pb.ModelReadyRequest(name=name), pb.ModelReadyResponse)
            ).ready

        assert (await client.ask("ServerLive", b"", pb.ServerLiveResponse)).live
        assert (await client.ask("ServerReady", b"", pb.ServerReadyResponse)).ready
        server = await client.ask("ServerMetadata", b"", pb.ServerMetadataResponse)
        assert (server.name, server.version) == ("foremesh", VERSION)
        assert await states() == {"intent.mini": "UNAVAILABLE", "intent.tiny": "READY"}
        assert await ready("intent") and not await ready("intent.mini")
        load = pb.RepositoryModelLoadRequest(repository_name="any", model_name="intent.mini")
        await client.ask("RepositoryModelLoad", load, pb.RepositoryModelLoadResponse)
        assert await ready("intent.mini")
        assert await states(only_ready=True) == {"intent.mini": "READY", "intent.tiny": "READY"}
        unload = pb.RepositoryModelUnloadRequest(repository_name="any", model_name="intent.mini")
        await client.ask("RepositoryModelUnload", unload, pb.RepositoryModelUnloadResponse)
        assert await states(only_ready=True) == {"intent.tiny": "READY"}
        about = await client.ask(
            "ModelMetadata", pb.ModelMetadataRequest(name="intent", version="1"), pb.ModelMetadataResponse
        )
        assert (about.name, list(about.versions), about.platform) == ("intent", ["1"], "onnxruntime_onnx")
        assert [(one.name, one.datatype, list(one.shape)) for one in (*about.inputs, *about.outputs)] == [
            ("ids", "INT64", [-1, -1]), ("lengths", "INT64", [-1]), ("logits", "FP32", [-1, len(LABELS)]),
        ]  # fmt: skip
        pinned = pb.RepositoryModelUnloadRequest(model_name="intent.tiny")
        error = await client.refused(pinned, "RepositoryModelUnload")
        assert (error.code(), "stays loaded" in str(error.details())) == (Status.FAILED_PRECONDITION, True)

    serving(tmp_path, test)


def test_health_is_that_of_what_is_pinned(catalog: Path) -> None:
    async def test(client: Client, app: Standalone) -> None:
        async def health(service: str) -> Any:
            asked = HealthCheckRequest(service=service)
            return (await client.ask("/grpc.health.v1.Health/Check", asked, HealthCheckResponse)).status

        assert (
            await health("") == await health("inference.GRPCInferenceService") == HealthCheckResponse.SERVING
        )
        app.repository.held["intent.tiny"].batcher.close()
        assert await health("") == HealthCheckResponse.NOT_SERVING
        assert not (await client.ask("ServerReady", b"", pb.ServerReadyResponse)).ready
        unknown = await client.refused(HealthCheckRequest(service="other"), "/grpc.health.v1.Health/Check")
        assert unknown.code() == Status.NOT_FOUND
        watch = await client.refused(HealthCheckRequest(), "/grpc.health.v1.Health/Watch")
        assert watch.code() == Status.UNIMPLEMENTED

    serving(catalog, test)


def test_values_and_bytes_say_the_same_and_answers_come_as_they_were_asked(catalog: Path) -> None:
    rows = [[5, 6, 7], [8, 9]]

    async def test(client: Client, app: Standalone) -> None:
        plain = await client.infer(typed(*rows, id="7", model_version="1"))
        assert (plain.id, plain.model_name, plain.model_version) == ("7", "intent.tiny", "1")
        (logits,) = plain.outputs
        assert (logits.name, logits.datatype, list(logits.shape)) == ("logits", "FP32", [2, len(LABELS)])
        assert len(logits.contents.fp32_contents) == 2 * len(LABELS) and not plain.raw_output_contents
        binary = await client.infer(raw(*rows))
        assert not binary.outputs[0].HasField("contents") and list(binary.outputs[0].shape) == [
            2,
            len(LABELS),
        ]
        assert np.allclose(np.frombuffer(binary.raw_output_contents[0], "<f4"), logits.contents.fp32_contents)
        narrow = typed(*rows)
        for tensor in narrow.inputs:
            values = list(tensor.contents.int64_contents)
            tensor.datatype, contents = "INT32", Contents(int_contents=values)
            tensor.contents.CopyFrom(contents)
        assert np.allclose(
            (await client.infer(narrow)).outputs[0].contents.fp32_contents, logits.contents.fp32_contents
        )

    serving(catalog, test)


def test_texts_get_intents_and_scores(catalog: Path) -> None:
    async def test(client: Client, app: Standalone) -> None:
        texts = ["turn on the light", "play music"]
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as other:
            items = (await other.post("/v1/intents", json={"texts": texts})).json()["items"]
        intents = [item["body"]["intent"].encode() for item in items]
        scores = pytest.approx([item["body"]["score"] for item in items], abs=1e-6)
        plain = (await client.infer(text(*texts))).outputs
        assert list(plain[0].contents.bytes_contents) == intents
        assert list(plain[1].contents.fp32_contents) == scores
        binary = (await client.infer(text(*texts, as_bytes=True))).raw_output_contents
        assert binary[0] == b"".join(struct.pack("<I", len(one)) + one for one in intents)
        assert np.frombuffer(binary[1], "<f4").tolist() == scores

    serving(catalog, test)


class Gated(Standalone):
    """Its models run when the gate is open."""

    def __init__(self, options: Options) -> None:
        self.gate = threading.Event()
        self.ran: list[list[int]] = []
        super().__init__(options)

    def _make(self, card: Card) -> Held:
        made = super()._make(card)
        assert isinstance(made, TextHeld)
        model: Model = made.model

        def run(queries: Sequence[Query]) -> list[InferOutcome]:
            self.ran += [query.ids for query in queries]
            self.gate.wait(30)
            return model.run(queries)

        return TextHeld(model, Batcher(run, max_batch=1, queue_items=1), made.vocabulary)


def test_a_call_that_is_cancelled_or_late_frees_its_place_in_the_queue(catalog: Path) -> None:
    async def test(client: Client, app: Standalone) -> None:
        assert isinstance(app, Gated)
        held = app.repository.held["intent.tiny"]
        first = asyncio.ensure_future(client.infer(typed([5])))
        await until(lambda: app.ran == [[5]])
        cancelled = asyncio.ensure_future(client.infer(typed([6])))
        await until(lambda: app.repository.queued == 1)
        cancelled.cancel()
        await until(lambda: app.repository.queued == 0)
        late = asyncio.ensure_future(client.refused(typed([7]), timeout_s=0.3))
        await until(lambda: app.repository.queued == 1)
        full = await client.refused(typed([8]))
        assert full.code() == Status.UNAVAILABLE and "the queue before the model is full" in str(
            full.details()
        )
        assert float(dict(full.trailing_metadata() or ())["grpc-retry-pushback-ms"]) >= 100
        assert (await late).code() == Status.DEADLINE_EXCEEDED
        await until(lambda: app.repository.queued == 0)
        await until(lambda: held.busy == 1)
        app.gate.set()
        assert (await first).outputs
        assert (await client.infer(typed([9]))).outputs
        assert app.ran == [[5], [9]]

    serving(catalog, test, kind=Gated)


def test_a_deadline_in_the_past_is_not_run(catalog: Path) -> None:
    async def test(client: Client, app: Standalone) -> None:
        assert isinstance(app, Gated)
        assert (await client.refused(typed([4]), timeout_s=-1.0)).code() == Status.DEADLINE_EXCEEDED
        first = asyncio.ensure_future(client.infer(typed([5])))
        await until(lambda: app.ran == [[5]])
        await ask_by_hand(client.port, typed([6]).SerializeToString(), timeout="1n")
        await until(lambda: app.repository.queued == 0)
        app.gate.set()
        assert (await first).outputs
        tensors = {"ids": np.array([[7]]), "lengths": np.array([1])}
        with pytest.raises(Problem) as error:
            await infer(app.texts, "intent", None, tensors, (), deadline_s=0.0)
        assert error.value.status == 504
        assert (await client.infer(typed([8]))).outputs
        assert app.ran == [[5], [8]]

    serving(catalog, test, kind=Gated)


async def ask_by_hand(port: int, message: bytes, *, timeout: str) -> None:
    """Send a call frame by frame (RFC 9113), for a client of gRPC keeps to itself what it holds to be late already, and
    wait for its end."""

    def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload

    named = {
        ":method": "POST", ":scheme": "http", ":authority": "localhost", "te": "trailers",
        ":path": "/inference.GRPCInferenceService/ModelInfer", "content-type": "application/grpc",
        "grpc-timeout": timeout,
    }  # fmt: skip
    block = b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in named.items()
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + frame(1, 4, 1, block))
    writer.write(frame(0, 1, 1, b"\0" + struct.pack(">I", len(message)) + message))
    while True:
        head = await reader.readexactly(9)
        size, (kind, flags, stream) = int.from_bytes(head[:3]), struct.unpack(">BBI", head[3:])
        await reader.readexactly(size)
        if stream == 1 and (kind == 3 or (kind == 1 and flags & 1)):  # reset, or trailers
            break
    writer.close()
    await writer.wait_closed()


def test_more_calls_at_once_than_are_allowed_are_refused(catalog: Path) -> None:
    async def test(client: Client, app: Standalone) -> None:
        assert isinstance(app, Gated)
        first = asyncio.ensure_future(client.infer(typed([5])))
        await until(lambda: app.ran == [[5]])
        second = asyncio.ensure_future(client.infer(typed([6])))
        await until(lambda: app.repository.queued == 1)
        assert (await client.refused(b"", "ServerLive")).code() == Status.RESOURCE_EXHAUSTED
        app.gate.set()
        assert (await first).outputs and (await second).outputs
        assert (await client.ask("ServerLive", b"", pb.ServerLiveResponse)).live

    serving(catalog, test, kind=Gated, max_connections=2)


def test_a_thousand_distinct_calls_at_once_are_not_mixed_up(catalog: Path) -> None:
    """Each asks for other words; its logits are those that the model gives for them alone in this process."""

    async def test(client: Client, app: Standalone) -> None:
        random = np.random.default_rng(3)
        rows = [
            random.integers(2, len(WORDS), random.integers(3, MAX_TOKENS + 1)).tolist() for _ in range(1000)
        ]
        assert len({tuple(row) for row in rows}) == len(rows)
        alone = []
        for row in rows:
            tensors = {"ids": np.array([row]), "lengths": np.array([len(row)])}
            alone.append((await infer(app.texts, "intent.tiny", None, tensors, ())).outputs[0].values[0])
        answers = await asyncio.gather(
            *(client.infer((raw if at % 2 else typed)(row, id=str(at))) for at, row in enumerate(rows))
        )
        for at, (answer, expected) in enumerate(zip(answers, alone, strict=True)):
            assert answer.id == str(at)
            if at % 2:
                found = np.frombuffer(answer.raw_output_contents[0], "<f4")
            else:
                found = np.array(answer.outputs[0].contents.fp32_contents, np.float32)
            assert np.abs(found - expected).max() < 1e-4

    serving(catalog, test, queue_items=10_000, deadline_s=30.0)
