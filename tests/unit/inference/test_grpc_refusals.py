"""The v2 protocol over gRPC: what it refuses, with which status and words, and that it lives on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest

from services.common.catalog import Card
from services.inference.protocols.v2 import inference_pb2 as pb
from services.inference.repository import Held
from services.inference.standalone import Standalone
from tests.unit.common.catalog import write_entry
from tests.unit.inference.grpc_client import Client, Contents, raw, serving, text, typed

Status = grpc.StatusCode
LIMIT = 1 << 16


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("catalog")
    write_entry(path)
    return path


def changed(request: pb.ModelInferRequest, at: int, **members: Any) -> pb.ModelInferRequest:
    """The request with other members of its input `at`."""
    tensor = request.inputs[at]
    for name, value in members.items():
        tensor.ClearField(name)
        if name == "shape":
            tensor.shape.extend(value)
        elif name == "contents":
            tensor.contents.CopyFrom(value)
        else:
            setattr(tensor, name, value)
    return request


def with_raw(request: pb.ModelInferRequest, *contents: bytes) -> pb.ModelInferRequest:
    request.ClearField("raw_input_contents")
    request.raw_input_contents.extend(contents)
    return request


IDS, LENGTH = np.array([5, 6], "<i8").tobytes(), np.array([2], "<i8").tobytes()
BAD: dict[str, tuple[pb.ModelInferRequest, str]] = {
    "no inputs": (pb.ModelInferRequest(model_name="intent"), "inputs are none"),
    "half of them": (pb.ModelInferRequest(model_name="intent", inputs=typed([5, 6]).inputs[:1]), "inputs are ids"),
    "given twice": (changed(typed([5, 6]), 1, name="ids"), "given twice"),
    "no contents": (changed(typed([5, 6]), 0, contents=Contents()), "holds 0 elements"),
    "too few": (changed(typed([5, 6]), 0, contents=Contents(int64_contents=[5])), "holds 1 elements"),
    "another member": (changed(typed([5, 6]), 0, contents=Contents(fp32_contents=[5, 6])), "holds fp32_contents"),
    "two members": (
        changed(typed([5, 6]), 0, contents=Contents(int64_contents=[5, 6], int_contents=[5, 6])),
        "holds int_contents",
    ),
    "floats": (
        changed(typed([5, 6]), 0, datatype="FP32", contents=Contents(fp32_contents=[5, 6])), "must be INT64",
    ),
    "unknown type": (changed(typed([5, 6]), 0, datatype="COMPLEX"), "datatype 'COMPLEX'"),
    "a type that no model takes": (changed(typed([5, 6]), 0, datatype="FP64"), "datatype 'FP64'"),
    "negative side": (changed(typed([5, 6]), 0, shape=[-1, 2]), "has the shape [-1, 2]"),
    "no shape": (changed(typed([5, 6]), 0, shape=[]), "has the shape []"),
    "a hundred sides": (changed(typed([5, 6]), 0, shape=[1] * 100), "and more; 1 to 8 sides"),
    "overflowing shape": (changed(typed([5, 6]), 0, shape=[2**40, 2**40]), "0 to 1048576"),
    "a long side beside none": (changed(typed([5, 6]), 0, shape=[0, 2**62], contents=Contents()), "0 to 1048576"),
    "many elements": (changed(typed([5, 6]), 0, shape=[2**19, 2**10]), "at most 1048576"),
    "one dimension": (changed(typed([5, 6]), 0, shape=[2]), "must be [batch, tokens]"),
    "too long a length": (changed(typed([5, 6]), 1, contents=Contents(int64_contents=[3])), "between 0 and the 2"),
    "no length": (changed(typed([5, 6]), 1, contents=Contents(int64_contents=[0])), "item 0: ids is empty"),
    "a negative length": (changed(typed([5, 6]), 1, contents=Contents(int64_contents=[-1])), "between 0 and the 2"),
    "a negative id": (typed([-1, 2]), "item 0: ids holds a token outside"),
    "an unknown id": (typed([5], [10**6]), "item 1: ids holds a token outside"),
    "10,000 tokens": (raw([5] * 10_000), "item 0: ids has 10000 tokens"),
    "too many items": (raw(*[[5]] * 257), "hold 257 items"),
    "an unknown output": (typed([5, 6], outputs=[{"name": "nothing"}]), "no output 'nothing'"),
    "no UTF-8": (
        pb.ModelInferRequest(
            model_name="intent",
            inputs=[{"name": "text", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"\xff"]}}],
        ),
        "no UTF-8",
    ),
    "both ways": (with_raw(typed([5, 6]), IDS, LENGTH), "give all tensors one way"),
    "bytes for one of two": (with_raw(raw([5, 6]), IDS), "hold 1 tensors; inputs name 2"),
    "bytes for nobody": (with_raw(raw([5, 6]), IDS, LENGTH, b""), "hold 3 tensors; inputs name 2"),
    "too few bytes": (with_raw(raw([5, 6]), IDS[:-1], LENGTH), "has 15 bytes; 2 of INT64 are 16"),
    "too many bytes": (with_raw(raw([5, 6]), IDS + b"\0", LENGTH), "has 17 bytes; 2 of INT64 are 16"),
    "half a length": (with_raw(text("a", as_bytes=True), b"\1\0"), "middle of a length"),
    "half a text": (with_raw(text("a", as_bytes=True), b"\5\0\0\0abc"), "says 5 bytes for an element; 3 are left"),
    "a text too many": (with_raw(text("a", as_bytes=True), b"\0\0\0\0" * 2), "holds 2 elements"),
    "a name of 100,000 letters": (changed(typed([5, 6]), 0, name="n" * 50_000), "inputs are lengths, nnn"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_tensor_is_refused_with_the_reason_and_the_next_call_is_answered(
    catalog: Path, name: str
) -> None:
    request, said = BAD[name]

    async def test(client: Client, app: Standalone) -> None:
        error = await client.refused(request)
        assert error.code() == Status.INVALID_ARGUMENT and said in str(error.details()), error
        assert (await client.infer(typed([5, 6]))).outputs

    serving(catalog, test, max_body_bytes=1 << 20)


def test_what_is_not_there_and_what_is_no_message(catalog: Path) -> None:
    async def test(client: Client, app: Standalone) -> None:
        for request, method, said in (
            (typed([5], model="huge"), "ModelInfer", "'huge' is not in the catalog"),
            (typed([5], model_version="9"), "ModelInfer", "in version 1, not '9'"),
            (pb.ModelMetadataRequest(name="intent", version="9"), "ModelMetadata", "in version 1, not '9'"),
            (pb.ModelReadyRequest(name="huge"), "ModelReady", "not in the catalog"),
            (pb.RepositoryModelLoadRequest(model_name="huge"), "RepositoryModelLoad", "not in the catalog"),
            (
                pb.RepositoryModelUnloadRequest(model_name="huge"),
                "RepositoryModelUnload",
                "not in the catalog",
            ),
        ):
            error = await client.refused(request, method)
            assert error.code() == Status.NOT_FOUND and said in str(error.details()), error
        for content in (b"\xff" * 20, typed([5, 6]).SerializeToString()[:-3], b"\x0a\x02\xff\xfe"):
            error = await client.refused(content)
            told = "the message cannot be read as inference.ModelInferRequest"
            assert (error.code(), error.details()) == (Status.INVALID_ARGUMENT, told)
        assert (await client.refused(b"", "ModelStreamInfer")).code() == Status.UNIMPLEMENTED
        assert (await client.infer(typed([5, 6]))).outputs

    serving(catalog, test)


def test_the_text_of_an_error_is_the_detail_of_its_problem(catalog: Path) -> None:
    async def test(client: Client, app: Standalone) -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as other:
            for model, wanted, ids in (
                ("huge", "logits", 5),
                ("intent", "nothing", 5),
                ("intent", "logits", -1),
            ):
                inputs = [
                    {"name": "ids", "shape": [1, 1], "datatype": "INT64", "data": [ids]},
                    {"name": "lengths", "shape": [1], "datatype": "INT64", "data": [1]},
                ]
                body = {"inputs": inputs, "outputs": [{"name": wanted}]}
                problem = (await other.post(f"/v2/models/{model}/infer", json=body)).json()
                error = await client.refused(typed([ids], model=model, outputs=[{"name": wanted}]))
                assert error.details() == problem["detail"] != ""

    serving(catalog, test)


def test_a_message_that_is_too_large_is_refused_compressed_or_not(catalog: Path) -> None:
    async def test(client: Client, app: Standalone) -> None:
        large = typed([5] * 100_000)
        for compression in (None, grpc.Compression.Gzip):
            error = await client.refused(large, compression=compression)
            assert error.code() == Status.RESOURCE_EXHAUSTED and "larger than max" in str(error.details())
        assert (await client.infer(typed([5, 6]), compression=grpc.Compression.Gzip)).outputs

    serving(catalog, test, max_body_bytes=LIMIT)


class Broken(Standalone):
    """Fails at models that are not tiny in a way that nobody thought of."""

    def _make(self, card: Card) -> Held:
        if card.tier != "tiny":
            raise RuntimeError("a secret of the inside")
        return super()._make(card)


def test_what_nobody_thought_of_is_internal_and_logged_and_the_next_call_is_answered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for tier in ("tiny", "mini"):
        write_entry(tmp_path, tier=tier)

    async def test(client: Client, app: Standalone) -> None:
        error = await client.refused(typed([5], model="intent.mini"))
        assert error.code() == Status.INTERNAL and "secret" not in str(error.details())
        assert "a secret of the inside" in caplog.text
        assert (await client.infer(typed([5, 6]))).outputs

    serving(tmp_path, test, kind=Broken)
