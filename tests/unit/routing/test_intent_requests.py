"""Validation: every wrong body is a problem that names the field, alone and inside a coalesced call."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.common.problems import Problem
from services.routing.requests import Asked, read_request, read_session_request
from tests.unit.common.client import problem, validate
from tests.unit.routing.upstream import Mesh, with_mesh

BAD: list[tuple[str, str, str | None]] = [
    ("", "bad-json", None),
    ("nope", "bad-json", None),
    ('{"text":"a"', "bad-json", None),
    ('{"text":"a"}}', "bad-json", None),
    ("\ufeff{}", "bad-json", None),
    ('{"text":"\\ud800"}', "bad-json", None),
    ('{"text":"a\x00"}', "bad-json", None),
    ('{"text":"a","latency_budget_ms":NaN}', "bad-json", None),
    ('{"text":"a","latency_budget_ms":Infinity}', "bad-json", None),
    ("[" * 50_000, "wrong-type", "body"),
    ('{"text":' + "[" * 50_000, "wrong-type", "text"),
    ('{"text":' + '{"a":' * 5000 + "1" + "}" * 5001, "wrong-type", "text"),
    ("[]", "wrong-type", "body"),
    ('"text"', "wrong-type", "body"),
    ("null", "wrong-type", "body"),
    ("1" * 5000, "out-of-range", "body"),
    ("{}", "missing-field", "text"),
    ('{"text":null}', "wrong-type", "text"),
    ('{"text":1}', "wrong-type", "text"),
    ('{"text":["a"]}', "wrong-type", "text"),
    ('{"text":true}', "wrong-type", "text"),
    ('{"text":""}', "empty-text", "text"),
    ('{"text":" \\t\\n\u2003"}', "empty-text", "text"),
    (json.dumps({"text": "a" * 2001}), "text-too-long", "text"),
    (json.dumps({"text": "\U0001f600" * 2001}), "text-too-long", "text"),
    ('{"text":"a","model":null}', "wrong-type", "model"),
    ('{"text":"a","model":3}', "wrong-type", "model"),
    ('{"text":"a","top_k":0}', "out-of-range", "top_k"),
    ('{"text":"a","top_k":11}', "out-of-range", "top_k"),
    ('{"text":"a","top_k":-1}', "out-of-range", "top_k"),
    ('{"text":"a","top_k":' + "9" * 4500 + "}", "out-of-range", "top_k"),
    ('{"text":"a","top_k":true}', "wrong-type", "top_k"),
    ('{"text":"a","top_k":2.5}', "wrong-type", "top_k"),
    ('{"text":"a","top_k":"3"}', "wrong-type", "top_k"),
    ('{"text":"a","latency_budget_ms":0}', "out-of-range", "latency_budget_ms"),
    ('{"text":"a","latency_budget_ms":-5}', "out-of-range", "latency_budget_ms"),
    ('{"text":"a","latency_budget_ms":60001}', "out-of-range", "latency_budget_ms"),
    ('{"text":"a","latency_budget_ms":1e400}', "out-of-range", "latency_budget_ms"),
    ('{"text":"a","latency_budget_ms":' + "9" * 4500 + "}", "out-of-range", "latency_budget_ms"),
    ('{"text":"a","latency_budget_ms":true}', "wrong-type", "latency_budget_ms"),
    ('{"text":"a","latency_budget_ms":"100"}', "wrong-type", "latency_budget_ms"),
    ('{"text":"a","session_id":1}', "wrong-type", "session_id"),
    ('{"text":"a","session_id":""}', "out-of-range", "session_id"),
    ('{"text":"a","session_id":"a/b"}', "out-of-range", "session_id"),
    ('{"text":"a","session_id":"a\\n"}', "out-of-range", "session_id"),
    (json.dumps({"text": "a", "session_id": "s" * 65}), "out-of-range", "session_id"),
    ('{"text":"a","txt":"b"}', "unknown-field", "txt"),
    ('{"text":"a","text":"b"}', "duplicate-field", "text"),
    ('{"text":"a","\\u0074ext":"b"}', "duplicate-field", "text"),
    ('{"top_k":1,"text":"a","top_k":1}', "duplicate-field", "top_k"),
    ('{"text":"a : b","text":"c"}', "duplicate-field", "text"),
]


@pytest.mark.parametrize(("body", "slug", "field"), BAD, ids=range(len(BAD)))
def test_bad_bodies(body: str, slug: str, field: str | None) -> None:
    for given in (body, body.encode("utf-8", "surrogatepass")):
        with pytest.raises(Problem) as caught:
            read_request(given)
        assert caught.value.status == 400
        assert (caught.value.slug, caught.value.ext.get("field")) == (slug, field)
        document = caught.value.document()
        validate("problem", document)
        assert len(document["detail"]) < 300


GOOD = [
    '{"text":"a"}',
    ' { "text" : "turn on: the light at 5:30" } ',
    '{"text":"a\\u0000b"}',
    '{"text":"\\ud83d\\ude00"}',
    '{"text":"включи свет","top_k":10,"latency_budget_ms":60000}',
    '{"text":"{\\"text\\":\\"a\\",\\"text\\":\\"b\\"}"}',
    '{"text":"a","model":"intent","session_id":"A-z_0","latency_budget_ms":0.5,"top_k":1}',
    json.dumps({"text": " " + "a" * 2000 + "\n"}),
]


@pytest.mark.parametrize("body", GOOD)
def test_good_bodies(body: str) -> None:
    asked = read_request(body)
    assert asked == read_request(body.encode())
    assert isinstance(asked, Asked)
    assert asked.text == json.loads(body)["text"].strip()
    validate("intents-request", json.loads(body))


def test_session_bodies() -> None:
    assert read_session_request(b"") is None
    assert read_session_request(b"{}") is None
    assert read_session_request(b'{"session_id":"a-b"}') == "a-b"
    for body, slug in (
        (b"[]", "wrong-type"),
        (b'{"session_id":null}', "wrong-type"),
        (b'{"session_id":"a b"}', "out-of-range"),
        (b'{"session_id":"a","session_id":"b"}', "duplicate-field"),
        (b'{"session":"a"}', "unknown-field"),
        (b"{", "bad-json"),
    ):
        with pytest.raises(Problem) as caught:
            read_session_request(body)
        assert caught.value.slug == slug


def test_over_http_each_item_has_its_own_status(catalog: Path) -> None:
    async def test(mesh: Mesh) -> None:
        bodies = [body for body, _, _ in BAD]
        mixed = [
            {"body": '{"text":"four"}'},
            *({"body": body} for body in bodies),
            {"body": '{"text":"three"}'},
        ]
        first, *refused, last = await mesh.coalesced(*mixed)
        assert (first["status"], first["body"]["intent"]) == (200, "intent_4")
        assert (last["status"], last["body"]["intent"]) == (200, "intent_5")
        for outcome, (_, slug, _) in zip(refused, BAD, strict=True):
            assert outcome["status"] == 400
            assert outcome["body"]["type"].endswith("/" + slug)
        assert mesh.upstream.sizes("tokenize") == mesh.upstream.sizes("infer") == [2]
        (unknown,) = await mesh.coalesced({"body": '{"text":"a","model":"tyni"}'})
        assert unknown["status"] == 404 and unknown["body"]["known"] == ["intent"]
        for body, slug, field in BAD:
            if len(body) < 40_000:
                response = await mesh.client.post(
                    "/v1/intents", content=body.encode("utf-8", "surrogatepass")
                )
                assert problem(response, 400, slug).get("field") == field
        problem(await mesh.client.post("/v1/intents", content=b'{"text":"\xff"}'), 400, "bad-json")
        problem(await mesh.client.post("/v1/intents", content=b"x" * 70_000), 413, "body-too-large")

    with_mesh(catalog, test)


def test_wrong_coalesced_calls_are_refused_whole(catalog: Path) -> None:
    async def test(mesh: Mesh) -> None:
        post = mesh.client.post
        problem(await post("/internal/intents", content=b"{"), 400, "bad-json")
        problem(await post("/internal/intents", json={"items": [{"body": 1}]}), 400, "wrong-type")
        many = {"items": [{"body": "{}", "deadline_ms": 1}] * 257}
        problem(await post("/internal/intents", json=many), 400, "out-of-range")
        assert (await post("/internal/intents", json={"items": []})).json() == {"items": []}

    with_mesh(catalog, test)
