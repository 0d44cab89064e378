"""Inference alone: its own routes, OpenAI's and the v2 protocol's, and what each refuses."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import re
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.routing import Route

from services.common.summaries import sentences
from services.inference.standalone import Options, Standalone
from tests.unit.common.catalog import LABELS, MAX_TOKENS, TAGS, WORDS, write_entry
from tests.unit.common.client import problem

LENGTH = "inference-header-content-length"
INFER = "/v2/models/intent.tiny/infer"
CATALOG = Path(__file__).parents[3] / "models/catalog"


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("catalog")
    write_entry(path)
    return path


def serving(catalog: Path, test: Callable[[httpx.AsyncClient], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        app = Standalone(Options(catalog=str(catalog), preload=("intent.tiny",), **options))
        transport = httpx.ASGITransport(app)
        async with (
            asyncio.timeout(60),
            app.running(),
            httpx.AsyncClient(transport=transport, base_url="http://app") as client,
        ):
            await test(client)

    asyncio.run(main())


def ids(*rows: list[int]) -> list[dict[str, Any]]:
    """The inputs `ids` and `lengths` of a request."""
    longest = max(map(len, rows))
    padded = [row + [0] * (longest - len(row)) for row in rows]
    return [
        {"name": "ids", "shape": [len(rows), longest], "datatype": "INT64", "data": padded},
        {"name": "lengths", "shape": [len(rows)], "datatype": "INT64", "data": [len(row) for row in rows]},
    ]


def test_one_text_and_several(catalog: Path) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        one = (await client.post("/v1/intents", json={"text": "turn on the light"})).json()
        assert one["intent"] in LABELS and len(one["alternatives"]) == 3
        several = (
            await client.post("/v1/intents", json={"texts": ["turn on the light", " ", "play music"]})
        ).json()
        assert [item["status"] for item in several["items"]] == [200, 400, 200]
        assert several["items"][0]["body"]["intent"] == one["intent"]
        assert several["items"][1]["body"]["field"] == "texts[1]"

    serving(catalog, test)


def test_a_model_that_marks_slots_tells_where_they_are_in_the_text_that_was_sent(tmp_path: Path) -> None:
    write_entry(tmp_path)
    write_entry(tmp_path, model="command", tags=TAGS, max_batch=1)

    async def test(client: httpx.AsyncClient) -> None:
        texts = ["  light w1 W2 ", "play music", "", "w1, w1 " * 200]
        several = await client.post("/v1/intents", json={"texts": texts, "model": "command"})
        first, second, third, fourth = (item["body"] for item in several.json()["items"])
        assert first["slots"] == [
            {"type": "device", "value": "light", "start": 2, "end": 7},
            {"type": "number", "value": "w1 W2", "start": 8, "end": 13},
        ]
        assert second["slots"] == [] and third["status"] == 400
        assert 1 < len(fourth["slots"]) <= MAX_TOKENS, "as far as the model reads"
        one = await client.post("/v1/intents", json={"text": texts[0], "model": "command"})
        assert one.json()["slots"] == first["slots"]
        assert "slots" not in (await client.post("/v1/intents", json={"text": "light"})).json()

    serving(tmp_path, test)


@pytest.mark.parametrize(
    ("body", "slug"),
    [
        ("{", "bad-json"),
        ("[]", "wrong-type"),
        ("{}", "missing-field"),
        ('{"text":"a","texts":["a"]}', "missing-field"),
        ('{"text":""}', "empty-text"),
        ('{"text":"' + "a" * 2001 + '"}', "text-too-long"),
        ('{"texts":[]}', "out-of-range"),
        (json.dumps({"texts": ["a"] * 257}), "out-of-range"),
        ('{"text":"a","top_k":11}', "out-of-range"),
        ('{"text":"a","colour":"red"}', "unknown-field"),
        ('{"text":7}', "wrong-type"),
    ],
)
def test_bad_questions_are_named(catalog: Path, body: str, slug: str) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        problem(await client.post("/v1/intents", content=body), 400, slug)

    serving(catalog, test)


def test_what_is_not_there(catalog: Path) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        known = problem(
            await client.post("/v1/intents", json={"text": "a", "model": "huge"}), 404, "unknown-model"
        )["known"]
        assert known == ["intent", "intent.tiny"]
        problem(await client.get("/nowhere"), 404, "not-found")
        problem(await client.get("/v1/intents"), 405, "method-not-allowed")
        told = problem(await client.post("/v2/health/live"), 405, "method-not-allowed")
        assert told["error"] == told["detail"] == "/v2/health/live does not take POST"
        told = problem(await client.get("/v2/models/huge"), 404, "unknown-model")
        assert told["error"] == told["detail"]
        told = problem(await client.get("/v1/models/huge"), 404, "unknown-model")
        assert (told["error"]["message"], told["error"]["code"]) == (told["detail"], "unknown-model")
        problem(await client.get("/v2/models/intent/versions/9"), 404, "unknown-version")
        told = problem(
            await client.post("/v1/embeddings", json={"input": "a", "model": "intent"}), 400, "no-such-output"
        )
        assert told["known"] == ["logits"]

    serving(catalog, test)


def test_binary_and_json_tensors_say_the_same(catalog: Path) -> None:
    rows = [[5, 6, 7], [8, 9]]
    inputs = ids(*rows)

    async def test(client: httpx.AsyncClient) -> None:
        plain = (await client.post(INFER, json={"id": "7", "inputs": inputs})).json()
        assert (plain["id"], plain["model_name"], plain["model_version"]) == ("7", "intent.tiny", "1")
        (logits,) = plain["outputs"]
        assert (logits["name"], logits["shape"], logits["datatype"]) == ("logits", [2, len(LABELS)], "FP32")
        tensors = [np.array(one["data"], "<i8").tobytes() for one in inputs]
        told = [
            {key: one[key] for key in ("name", "shape", "datatype")}
            | {"parameters": {"binary_data_size": len(raw)}}
            for one, raw in zip(inputs, tensors, strict=True)
        ]
        head = json.dumps({"inputs": told, "parameters": {"binary_data_output": True}}).encode()
        response = await client.post(
            INFER, content=head + b"".join(tensors), headers={LENGTH: str(len(head))}
        )
        assert response.status_code == 200, response.text
        size = int(response.headers[LENGTH])
        answer = json.loads(response.content[:size])
        assert answer["outputs"][0]["parameters"] == {"binary_data_size": 2 * len(LABELS) * 4}
        assert np.allclose(np.frombuffer(response.content[size:], "<f4"), logits["data"])

    serving(catalog, test)


def test_texts_and_intents_as_bytes(catalog: Path) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        one = (await client.post("/v1/intents", json={"text": "turn on the light"})).json()
        text = {"name": "text", "shape": [1], "datatype": "BYTES"}
        outputs = [{"name": "intent", "parameters": {"binary_data": True}}, {"name": "score"}]
        plain = {"inputs": [text | {"data": ["turn on the light"]}], "outputs": outputs}
        raw = struct.pack("<I", 17) + b"turn on the light"
        head = json.dumps(
            {"inputs": [text | {"parameters": {"binary_data_size": len(raw)}}], "outputs": outputs}
        ).encode()
        for response in (
            await client.post(INFER, json=plain),
            await client.post(INFER, content=head + raw, headers={LENGTH: str(len(head))}),
        ):
            size = int(response.headers[LENGTH])
            assert response.content[size:] == struct.pack("<I", len(one["intent"])) + one["intent"].encode()
            score = json.loads(response.content[:size])["outputs"][1]["data"]
            assert score == [pytest.approx(one["score"], abs=1e-6)]

    serving(catalog, test)


TENSOR = {"name": "ids", "shape": [1, 2], "datatype": "INT64"}
ONE = {"name": "lengths", "shape": [1], "datatype": "INT64", "data": [2]}
BAD = {
    "no inputs": {"inputs": []},
    "no JSON": b"{",
    "half of them": {"inputs": [TENSOR | {"data": [1, 2]}]},
    "given twice": {"inputs": [TENSOR | {"data": [1, 2]}] * 2},
    "no data": {"inputs": [TENSOR, ONE]},
    "too few": {"inputs": [TENSOR | {"data": [1]}, ONE]},
    "floats": {"inputs": [TENSOR | {"data": [1.5, 2]}, ONE]},
    "booleans": {"inputs": [TENSOR | {"data": [True, 2]}, ONE]},
    "texts": {"inputs": [TENSOR | {"data": ["a", "b"]}, ONE]},
    "too large": {"inputs": [TENSOR | {"data": [2**70, 1]}, ONE]},
    "mixed": {"inputs": [TENSOR | {"data": [1, [2]]}, ONE]},
    "too deep": {"inputs": [TENSOR | {"data": [[[[[[[[[[1, 2]]]]]]]]]]}, ONE]},
    "negative side": {"inputs": [TENSOR | {"shape": [-1, 2], "data": [1, 2]}, ONE]},
    "no shape": {"inputs": [TENSOR | {"shape": [], "data": [1]}, ONE]},
    "a hundred sides": {"inputs": [TENSOR | {"shape": [1] * 100, "data": [1]}, ONE]},
    "a long side beside none": {"inputs": [TENSOR | {"shape": [0, 2**62], "data": []}, ONE]},
    "sides of 4,000 digits": {"inputs": [TENSOR | {"shape": [10**4000] * 2, "data": [1]}, ONE]},
    "overflowing shape": {"inputs": [TENSOR | {"shape": [2**40, 2**40], "data": []}, ONE]},
    "unknown type": {"inputs": [TENSOR | {"datatype": "COMPLEX", "data": [1, 2]}, ONE]},
    "one dimension": {"inputs": [TENSOR | {"shape": [2], "data": [1, 2]}, ONE]},
    "no items": {"inputs": [TENSOR | {"shape": [0, 2], "data": []}, ONE | {"shape": [0], "data": []}]},
    "too long a length": {"inputs": [TENSOR | {"data": [1, 2]}, ONE | {"data": [3]}]},
    "no length": {"inputs": [TENSOR | {"data": [1, 2]}, ONE | {"data": [0]}]},
    "a negative length": {"inputs": [TENSOR | {"data": [1, 2]}, ONE | {"data": [-1]}]},
    "a negative id": {"inputs": [TENSOR | {"data": [-1, 2]}, ONE]},
    "an unknown id": {"inputs": [TENSOR | {"data": [10**6, 2]}, ONE]},
    "an unknown output": {"inputs": [TENSOR | {"data": [1, 2]}, ONE], "outputs": [{"name": "nothing"}]},
    "bytes that are not there": {"inputs": [TENSOR | {"parameters": {"binary_data_size": 16}}, ONE]},
    "negative bytes": {"inputs": [TENSOR | {"parameters": {"binary_data_size": -16}}, ONE]},
    "floats for texts": {"inputs": [{"name": "text", "shape": [1], "datatype": "FP32", "data": [1.0]}]},
    "10,000 tokens": {"inputs": ids([5] * 10_000)},
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_tensor_is_a_400_that_says_why_and_the_next_call_is_answered(catalog: Path, name: str) -> None:
    body = BAD[name]

    async def test(client: httpx.AsyncClient) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        response = await client.post(INFER, content=content)
        assert response.status_code == 400, response.text
        assert response.json()["error"] == response.json()["detail"] != ""
        assert (await client.post(INFER, json={"inputs": ids([5, 6])})).status_code == 200

    serving(catalog, test)


@pytest.mark.parametrize(
    ("length", "tail", "datatype"),
    [
        ("-1", b"", "BYTES"),
        ("9" * 30, b"", "BYTES"),
        ("x", b"", "BYTES"),
        (None, struct.pack("<I", 10) + b"short", "BYTES"),
        (None, b"\x01\x00", "BYTES"),
        (None, struct.pack("<I", 2) + b"\xff\xfe", "BYTES"),
        (None, struct.pack("<I", 1) + b"a" + struct.pack("<I", 1) + b"b", "BYTES"),
        (None, b"1234567", "INT64"),
    ],
)
def test_bad_binary_is_a_400(catalog: Path, length: str | None, tail: bytes, datatype: str) -> None:
    tensor = {
        "name": "text",
        "shape": [1],
        "datatype": datatype,
        "parameters": {"binary_data_size": len(tail)},
    }
    head = json.dumps({"inputs": [tensor]}).encode()

    async def test(client: httpx.AsyncClient) -> None:
        headers = {LENGTH: str(len(head)) if length is None else length}
        problem(await client.post(INFER, content=head + tail, headers=headers), 400, "bad-tensor")
        more = await client.post(INFER, content=head + tail + b"more", headers={LENGTH: str(len(head))})
        problem(more, 400, "bad-tensor")

    serving(catalog, test)


def test_the_repository_is_listed_loaded_and_unloaded(tmp_path: Path) -> None:
    for tier in ("tiny", "mini"):
        write_entry(tmp_path, tier=tier)

    async def test(client: httpx.AsyncClient) -> None:
        async def states(**body: Any) -> dict[str, str]:
            rows = (await client.post("/v2/repository/index", json=body)).json()
            return {row["name"]: row["state"] for row in rows}

        assert await states() == {"intent.mini": "UNAVAILABLE", "intent.tiny": "READY"}
        assert (await client.get("/v2/models/intent.mini/ready")).status_code == 503
        assert (await client.post("/v2/repository/models/intent.mini/load")).status_code == 200
        assert (await client.get("/v2/models/intent.mini/ready")).status_code == 200
        assert await states(ready=True) == {"intent.mini": "READY", "intent.tiny": "READY"}
        assert (await client.post("/v2/repository/models/intent.mini/unload")).status_code == 200
        assert await states(ready=True) == {"intent.tiny": "READY"}
        problem(await client.post("/v2/repository/models/intent.tiny/unload"), 409, "model-pinned")

    serving(tmp_path, test)


@pytest.mark.skipif(not (CATALOG / "intent/mini").exists(), reason="models/catalog has no intent/mini")
def test_embeddings_are_the_same_in_every_form() -> None:
    async def test(client: httpx.AsyncClient) -> None:
        async def embedded(given: Any, **more: Any) -> list[Any]:
            response = await client.post(
                "/v1/embeddings", json={"input": given, "model": "intent.mini", **more}
            )
            assert response.status_code == 200, response.text
            body = response.json()
            assert [one["index"] for one in body["data"]] == list(range(len(body["data"])))
            assert body["usage"]["prompt_tokens"] == body["usage"]["total_tokens"] > 0
            return [one["embedding"] for one in body["data"]]

        one, other = await embedded(["play some jazz", "will it rain"])
        assert math.isclose(np.linalg.norm(one), 1, abs_tol=1e-4)
        assert (await embedded("play some jazz"))[0] == pytest.approx(one, abs=1e-5)
        packed = (await embedded("play some jazz", encoding_format="base64"))[0]
        assert np.frombuffer(base64.b64decode(packed), "<f4") == pytest.approx(one, abs=1e-5)
        short = (await embedded("play some jazz", dimensions=8))[0]
        assert math.isclose(np.linalg.norm(short), 1, abs_tol=1e-4)
        assert short == pytest.approx(np.array(one[:8]) / np.linalg.norm(one[:8]), abs=1e-5)
        near = (await embedded("play some music"))[0]
        assert np.dot(one, near) > np.dot(one, other)
        by_ids = await embedded([[5, 6, 7], [8]])
        assert by_ids[0] == pytest.approx((await embedded([5, 6, 7]))[0], abs=1e-5)
        for bad, slug in (
            ([], "out-of-range"), ("", "empty-text"), ([1, "a"], "wrong-type"), ({}, "wrong-type"),
            ([[]], "wrong-type"), ([[10**9]], "refused-by-model"), ([True], "wrong-type"),
        ):  # fmt: skip
            response = await client.post("/v1/embeddings", json={"input": bad, "model": "intent.mini"})
            assert problem(response, 400, slug)["error"]["type"] == "invalid_request_error"
        response = await client.post(
            "/v1/embeddings", json={"input": "a", "model": "intent.mini", "dimensions": 385}
        )
        problem(response, 400, "out-of-range")

    serving(CATALOG, test)


def test_ten_thousand_distinct_requests_at_once_are_not_mixed_up(catalog: Path) -> None:
    """Each asks for other words; its logits are those that it gets alone."""

    async def test(client: httpx.AsyncClient) -> None:
        random = np.random.default_rng(3)
        rows = [
            random.integers(2, len(WORDS), random.integers(1, MAX_TOKENS + 1)).tolist() for _ in range(200)
        ]

        async def logits(row: list[int]) -> list[float]:
            response = await client.post(INFER, json={"inputs": ids(row)})
            assert response.status_code == 200, response.text
            found: list[float] = response.json()["outputs"][0]["data"]
            return found

        alone = [await logits(row) for row in rows]
        assert len({tuple(one) for one in alone}) == len(rows)
        for _ in range(50):
            together = await asyncio.gather(*map(logits, rows))
            assert np.abs(np.array(alone) - np.array(together)).max() < 1e-4

    serving(catalog, test, queue_items=10_000)


TEXT = """Play some jazz in the kitchen, please. I want to hear some music now! My cat is called
Dr. Whiskers. Put on a song that I like. Turn the music up a little."""


@pytest.mark.skipif(not (CATALOG / "intent/mini").exists(), reason="models/catalog has no intent/mini")
def test_a_summary_is_of_sentences_at_the_centre_in_their_order() -> None:
    async def test(client: httpx.AsyncClient) -> None:
        answer = (await client.post("/v1/summaries", json={"text": TEXT, "sentences": 3})).json()
        assert answer["of"] == 6 and len(answer["sentences"]) == 3
        places = [one["position"] for one in answer["sentences"]]
        assert places == sorted(places)
        assert answer["summary"] == " ".join(one["text"] for one in answer["sentences"])
        assert "cat" not in answer["summary"] and "Whiskers" not in answer["summary"]
        one = (await client.post("/v1/summaries", json={"text": "Only this"})).json()
        assert (one["summary"], one["of"]) == ("Only this", 1)
        problem(await client.post("/v1/summaries", json={"text": " \n"}), 400, "empty-text")
        problem(await client.post("/v1/summaries", json={"text": "a" * 100_001}), 413, "text-too-long")
        problem(await client.post("/v1/summaries", json={"text": "A. " * 300}), 400, "out-of-range")
        problem(await client.post("/v1/summaries", json={"text": "a", "sentences": 0}), 400, "out-of-range")
        problem(
            await client.post("/v1/summaries", json={"text": "a", "model": "intent.tiny"}),
            400,
            "no-such-output",
        )

    serving(CATALOG, test)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("It costs 3.5 euros. e.g. this one stays.", ["It costs 3.5 euros. e.g. this one stays."]),
        ("A line\nof text.\n\nAnother one", ["A line of text.", "Another one"]),
        ('"Stop." He left.', ['"Stop."', "He left."]),
        ("", []),
    ],
)
def test_sentences_end_where_they_should(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


def test_a_preferred_tier_that_comes_later_answers_from_then_on(tmp_path: Path) -> None:
    write_entry(tmp_path, tier="tiny")
    write_entry(tmp_path, model="other", tier="mini")

    async def test(client: httpx.AsyncClient) -> None:
        async def tier() -> str:
            found: str = (await client.post("/v1/intents", json={"text": "a", "model": "other"})).json()[
                "tier"
            ]
            return found

        assert await tier() == "mini"
        write_entry(tmp_path, model="other", tier="tiny")
        for _ in range(400):
            if await tier() == "tiny":
                return
            await asyncio.sleep(0.02)
        raise AssertionError("the preferred tier never answered")

    serving(tmp_path, test, catalog_every_s=0.05)


def test_the_openapi_document_has_every_route_and_leads_nowhere_else(catalog: Path) -> None:
    app = Standalone(Options(catalog=str(catalog), preload=("intent.tiny",)))
    there = {("post", path) for path in app._hot}
    for route in app._router.routes:
        assert isinstance(route, Route)
        path = route.path.replace("{model:path}", "{model}")
        there |= {(method.lower(), path) for method in route.methods or () if method != "HEAD"}

    async def test(client: httpx.AsyncClient) -> None:
        document = (await client.get("/openapi.json")).json()
        told = {
            (method, path)
            for path, one in document["paths"].items()
            for method in one
            if method != "parameters"
        }
        assert told == there - {("get", "/openapi.json")}
        text = json.dumps(document)
        for reference in set(re.findall(r'"\$ref": "#/([^"]+)"', text)):
            place = document
            for step in reference.split("/"):
                place = place[step]

    serving(catalog, test)
