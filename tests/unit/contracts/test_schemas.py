"""The contracts: good schemas, examples they take and refuse, and Python types that say the same."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from jsonschema import Draft202012Validator

from services.common.embeddings import EmbeddingsReply, EmbeddingsRequest, Usage, Vector
from services.common.summaries import Summary, SummaryRequest
from services.contracts import FOLDER, messages, names, schema
from services.routing.requests import IntentRequest
from services.routing.sessions import Session
from tests.unit.common.client import validate

CATALOG = Path(__file__).parents[3] / "models" / "catalog"

ANSWER: dict[str, Any] = {
    "intent": "light_on",
    "score": 0.9,
    "alternatives": [{"intent": "light_off", "score": 0.1}],
    "model": "intent",
    "tier": "tiny",
    "version": "1",
    "degraded": False,
    "timings_ms": {"total": 3.0, "tokenize": 1.0, "queue": 0.1, "infer": 0.2},
    "trace_id": None,
    "replica": "inference-1",
    "reason": "the preferred tier",
    "in_scope": True,
    "slots": [{"type": "place", "value": "hall", "start": 3, "end": 7}],
}
PROBLEM = {"type": "https://foremesh.dev/problems/empty-text", "title": "t", "status": 400, "detail": "d"}
OUTCOME = {
    "status": 200,
    "intent": "light_on",
    "score": 0.9,
    "alternatives": [],
    "queue_ms": 0.1,
    "run_ms": 0.2,
}

GOOD: list[tuple[str, dict[str, Any]]] = [
    (
        "traffic",
        {
            "t": 1764000000.0,
            "arrivals": 5,
            "answered": 4,
            "shed": 1,
            "failed": 0,
            "in_flight": 2,
            "p50_ms": 2.5,
            "p95_ms": 4.0,
            "p99_ms": None,
            "instance": "gateway",
        },
    ),
    (
        "forecasts",
        {
            "issued_at": 1764000000.0,
            "step_s": 5.0,
            "model": "lstm",
            "level_rps": 10.0,
            "horizons_s": [5.0, 10.0],
            "quantiles": [0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99],
            "rates_rps": [[1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 5, 6, 7]],
            "history_steps": 120,
            "compute_ms": 1.2,
        },
    ),
    (
        "decisions",
        {
            "t": 1764000000.0,
            "app": "inference",
            "policy": "predictive",
            "wanted": 3,
            "ready": 2,
            "starting": 1,
            "previous": 2,
            "applied": True,
            "reasons": [{"code": "forecast", "text": "90 % quantile in 4 s is 300 rps"}],
            "observation": {
                "rate_rps": 200.0,
                "capacity_rps": 120.0,
                "start_delay_s": 3.5,
                "queue": 0,
                "utilisation": 0.7,
                "forecast_rps": None,
            },
            "counterfactual": None,
        },
    ),
    ("intents-request", {"text": "turn on the light", "top_k": 3, "latency_budget_ms": 100}),
    ("intents-response", ANSWER),
    ("problem", PROBLEM),
    (
        "intents-coalesced-request",
        {"items": [{"body": "{}", "deadline_ms": 10.5, "traceparent": None}]},
    ),
    (
        "intents-coalesced-response",
        {
            "items": [
                {"status": 200, "body": ANSWER},
                {"status": 400, "body": PROBLEM, "retry_after_s": 1.5},
            ]
        },
    ),
    ("tokenize-request", {"model": "intent", "texts": ["a", ""], "tier": "tiny"}),
    ("tokenize-response", {"ids": [[1, 2], [3]], "truncated": [False, True]}),
    (
        "infer-request",
        {"model": "intent", "tier": "tiny", "items": [{"ids": [1], "top_k": 3, "deadline_ms": 5}]},
    ),
    (
        "infer-response",
        {
            "model": "intent",
            "tier": "tiny",
            "version": "1",
            "replica": "inference-1",
            "items": [OUTCOME, {"status": 503, "reason": "overloaded", "retry_after_s": 0.5}],
        },
    ),
    ("embed-request", {"model": "intent", "tier": "mini", "items": [[1, 2]], "central": 1}),
    (
        "embed-response",
        {
            "model": "intent",
            "tier": "mini",
            "version": "1",
            "replica": "inference-1",
            "vectors": ["AACAPw=="],
            "central": [],
        },
    ),
    ("embeddings-request", {"input": ["a"], "model": "intent.mini", "dimensions": None}),
    (
        "embeddings-response",
        {
            "data": [
                {"index": 0, "embedding": [0.6, 0.8], "object": "embedding"},
                {"index": 1, "embedding": "AACAPw==", "object": "embedding"},
            ],
            "model": "intent.mini",
            "usage": {"prompt_tokens": 3, "total_tokens": 3},
            "object": "list",
        },
    ),
    ("summaries-request", {"text": "One. Two.", "sentences": 1}),
    (
        "summaries-response",
        {
            "summary": "One.",
            "sentences": [{"text": "One.", "position": 0}],
            "of": 2,
            "model": "intent",
            "tier": "mini",
            "version": "1",
            "timings_ms": {"total": 1.5},
        },
    ),
    (
        "session",
        {
            "session_id": "a-1",
            "created_at": 1.5,
            "turns": [{"text": "a", "intent": "b", "score": 0.5, "t": 2.5}],
        },
    ),
    (
        "card",
        {
            "model": "intent",
            "tier": "tiny",
            "version": "1",
            "task": "intent",
            "labels": ["a", "b"],
            "max_tokens": 24,
            "sha256": {"model.onnx": "0" * 64, "tokenizer.json": "f" * 64},
            "data": "hwu64",
            "licence": "Apache-2.0",
            "anything": {"more": 1},
        },
    ),
]


def test_every_contract_is_a_schema_with_an_example_here() -> None:
    assert names() == sorted(name for name, _ in GOOD)
    for name in names():
        document = schema(name)
        Draft202012Validator.check_schema(document)
        assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        assert document["$id"] == f"https://foremesh.dev/contracts/{name}.schema.json"
        assert document["title"] and document["description"]
    with pytest.raises(KeyError, match=r"no contract 'trafic' \(card, decisions"):
        schema("trafic")


@pytest.mark.parametrize(("name", "document"), GOOD, ids=[name for name, _ in GOOD])
def test_examples_are_taken_and_each_missing_member_is_missed(name: str, document: dict[str, Any]) -> None:
    validate(name, document)
    for member in schema(name).get("required", [name for name in ("text",) if name in document]):
        with pytest.raises(jsonschema.ValidationError):
            validate(name, {key: value for key, value in document.items() if key != member})
    if schema(name)["additionalProperties"] is False:
        with pytest.raises(jsonschema.ValidationError):
            validate(name, {**document, "unheard_of": 1})


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("traffic", ["arrivals"], -1),
        ("traffic", ["arrivals"], 1.5),
        ("traffic", ["p50_ms"], "fast"),
        ("forecasts", ["rates_rps", 0], [1, 2]),
        ("forecasts", ["rates_rps", 0, 0], -1),
        ("forecasts", ["quantiles"], [0.5]),
        ("forecasts", ["model"], "oracle"),
        ("decisions", ["reasons"], []),
        ("decisions", ["reasons", 0, "code"], "Not A Code"),
        ("decisions", ["observation", "queue"], -1),
        ("decisions", ["applied"], 1),
        ("intents-request", ["top_k"], 11),
        ("intents-request", ["latency_budget_ms"], 0),
        ("intents-response", ["score"], 1.5),
        ("intents-response", ["trace_id"], "abc"),
        ("intents-response", ["timings_ms", "total"], None),
        ("problem", ["type"], "about:blank"),
        ("problem", ["status"], 200),
        ("intents-coalesced-response", ["items", 0, "status"], 503),
        ("intents-coalesced-response", ["items", 1, "status"], 200),
        ("intents-response", ["slots"], [{"type": "place", "value": "hall", "start": 3}]),
        ("tokenize-response", ["offsets"], [[[0]]]),
        ("infer-request", ["items", 0, "continues"], [2]),
        ("infer-response", ["items", 0, "marks"], [{"type": "place", "first": 1}]),
        ("tokenize-response", ["ids", 0], []),
        ("tokenize-response", ["ids", 0, 0], -1),
        ("infer-request", ["items", 0, "ids"], []),
        ("infer-response", ["items", 0, "intent"], None),
        ("infer-response", ["items", 1, "status"], 200),
        ("session", ["session_id"], "a/b"),
        ("session", ["turns"], [{}]),
        ("card", ["sha256", "model.onnx"], "00"),
        ("card", ["labels"], ["a", "a"]),
    ],
)
def test_wrong_values_are_refused(name: str, path: list[Any], value: object) -> None:
    document = copy.deepcopy(dict(GOOD)[name])
    place: Any = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        validate(name, document)


TYPES: list[tuple[str, type[msgspec.Struct], list[str | int]]] = [
    ("intents-request", IntentRequest, []),
    ("intents-response", messages.Answer, []),
    ("intents-response", messages.Timings, ["properties", "timings_ms"]),
    ("intents-response", messages.Alternative, ["$defs", "alternative"]),
    ("intents-response", messages.Slot, ["$defs", "slot"]),
    (
        "infer-response",
        messages.Mark,
        ["properties", "items", "items", "oneOf", 0, "properties", "marks", "items"],
    ),
    ("intents-coalesced-request", messages.IntentsRequest, []),
    ("intents-coalesced-request", messages.IntentsItem, ["properties", "items", "items"]),
    ("intents-coalesced-response", messages.IntentsReply, []),
    ("intents-coalesced-response", messages.IntentsOutcome, ["properties", "items", "items"]),
    ("tokenize-request", messages.TokenizeRequest, []),
    ("tokenize-response", messages.TokenizeReply, []),
    ("infer-request", messages.InferRequest, []),
    ("infer-request", messages.InferItem, ["properties", "items", "items"]),
    ("infer-response", messages.InferReply, []),
    ("embed-request", messages.EmbedRequest, []),
    ("embed-response", messages.EmbedReply, []),
    ("embeddings-request", EmbeddingsRequest, []),
    ("embeddings-response", EmbeddingsReply, []),
    ("embeddings-response", Vector, ["properties", "data", "items"]),
    ("embeddings-response", Usage, ["properties", "usage"]),
    ("summaries-request", SummaryRequest, []),
    ("summaries-response", Summary, []),
    ("session", Session, []),
]


@pytest.mark.parametrize(("name", "struct", "path"), TYPES)
def test_the_python_types_have_the_members_of_the_schema(
    name: str, struct: type[msgspec.Struct], path: list[str]
) -> None:
    document: Any = schema(name)
    for step in path:
        document = document[step]
    fields = msgspec.structs.fields(struct)
    assert {field.encode_name for field in fields} == set(document["properties"])
    required = {field.encode_name for field in fields if field.required}
    assert required >= set(document.get("required", []))


def test_outcomes_of_inference_have_the_members_of_both_branches() -> None:
    answered, refused = schema("infer-response")["properties"]["items"]["items"]["oneOf"]
    fields = {field.encode_name for field in msgspec.structs.fields(messages.InferOutcome)}
    assert fields == set(answered["properties"]) | set(refused["properties"])


def test_cards_in_the_catalog_keep_their_contract() -> None:
    cards = sorted(CATALOG.glob("*/*/card.json"))
    if not cards:
        pytest.skip("models/catalog has no entries")
    for path in cards:
        validate("card", msgspec.json.decode(path.read_bytes()))


def test_the_folder_holds_nothing_but_schemas_and_their_types() -> None:
    others = {path.name for path in FOLDER.iterdir() if not path.name.endswith(".schema.json")}
    assert others <= {"__init__.py", "messages.py", "README.md", "__pycache__"}
