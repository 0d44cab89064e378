"""Embeddings and summaries through tokenization, inference and routing as real processes, with the real models."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.common.central import central
from services.common.summaries import sentences
from tests.unit.common.client import validate
from tests.unit.routing.processes import ROOT, Service, request_path

CATALOG = ROOT / "models/catalog"
TEXT = (
    "The river rose during the night. Water stood in the old town. The river is expected to fall again tomorrow. "
    "A football match took place. Streets by the river stay closed."
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Service]]:
    with request_path(CATALOG, tmp_path_factory.mktemp("logs")) as services:
        yield services


def ask(path: dict[str, Service], where: str, **body: Any) -> tuple[int, Any]:
    return path["routing"].ask("POST", where, body)


def vectors(answer: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array([row["embedding"] for row in answer["data"]], np.float32)


def test_texts_become_vectors_alike_texts_alike_ones(path: dict[str, Service]) -> None:
    texts = ["turn on the light", "switch the lamp on", "what is the weather like"]
    status, answer = ask(path, "/v1/embeddings", input=texts, model="intent.mini")
    assert status == 200, answer
    validate("embeddings-response", answer)
    assert (answer["model"], [row["index"] for row in answer["data"]]) == ("intent.mini", [0, 1, 2])
    found = vectors(answer)
    assert found.shape == (3, 384)
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(3), abs=1e-4)
    assert found[0] @ found[1] > found[0] @ found[2] + 0.1
    assert answer["usage"]["prompt_tokens"] > 12


def test_every_form_says_the_same(path: dict[str, Service]) -> None:
    texts = ["turn on the light", "play music"]
    plain = vectors(ask(path, "/v1/embeddings", input=texts, model="intent.mini")[1])
    coded = ask(path, "/v1/embeddings", input=texts, model="intent.mini", encoding_format="base64")[1]
    decoded = [np.frombuffer(base64.b64decode(row["embedding"]), "<f4") for row in coded["data"]]
    assert np.stack(decoded) == pytest.approx(plain)
    ids = path["tokenization"].ask(
        "POST", "/v1/tokenize", {"model": "intent", "tier": "mini", "texts": texts}
    )[1]["ids"]
    assert vectors(ask(path, "/v1/embeddings", input=ids, model="intent.mini")[1]) == pytest.approx(plain)
    short = vectors(ask(path, "/v1/embeddings", input=texts, model="intent.mini", dimensions=64)[1])
    expected = plain[:, :64] / np.linalg.norm(plain[:, :64], axis=1, keepdims=True)
    assert short == pytest.approx(expected, abs=1e-5)


def test_a_summary_is_of_the_sentences_at_the_centre(path: dict[str, Service]) -> None:
    status, answer = ask(path, "/v1/summaries", text=TEXT, sentences=2)
    assert status == 200, answer
    validate("summaries-response", answer)
    parts = sentences(TEXT)
    assert answer["of"] == len(parts) == 5
    places = [one["position"] for one in answer["sentences"]]
    assert places == central(vectors(ask(path, "/v1/embeddings", input=parts, model="intent.mini")[1]), 2)
    assert answer["summary"] == " ".join(parts[at] for at in places)
    assert "football" not in answer["summary"]


@pytest.mark.parametrize(
    ("where", "body", "status", "slug"),
    [
        ("embeddings", {"model": "intent.mini"}, 400, "missing-field"),
        ("embeddings", {"input": [], "model": "intent.mini"}, 400, "out-of-range"),
        ("embeddings", {"input": ["a", " "], "model": "intent.mini"}, 400, "empty-text"),
        ("embeddings", {"input": ["a", 1], "model": "intent.mini"}, 400, "wrong-type"),
        ("embeddings", {"input": [[10**9]], "model": "intent.mini"}, 400, "refused-by-model"),
        ("embeddings", {"input": [-1], "model": "intent.mini"}, 400, "refused-by-model"),
        ("embeddings", {"input": "a", "model": "intent.mini", "dimensions": 385}, 400, "out-of-range"),
        ("embeddings", {"input": "a", "model": "intent.tiny"}, 400, "refused-by-model"),
        ("embeddings", {"input": "a", "model": "nobody"}, 404, "unknown-model"),
        ("summaries", {"text": " "}, 400, "empty-text"),
        ("summaries", {"text": "One. " * 300}, 400, "out-of-range"),
        ("summaries", {"text": "a" * 100_001}, 413, "text-too-long"),
        ("summaries", {"text": "One. Two.", "sentences": 0}, 400, "out-of-range"),
        ("summaries", {"text": "One. Two.", "model": "intent.tiny"}, 400, "refused-by-model"),
    ],
)
def test_what_cannot_be_is_named(
    path: dict[str, Service], where: str, body: dict[str, Any], status: int, slug: str
) -> None:
    told, answer = ask(path, f"/v1/{where}", **body)
    assert (told, answer["type"].rpartition("/")[2]) == (status, slug), answer
    if where == "embeddings":
        assert answer["error"]["message"] == answer["detail"] and answer["error"]["code"] == slug
    validate("problem", {key: value for key, value in answer.items() if key != "error"})


def test_without_inference_it_is_a_503_with_a_time(path: dict[str, Service], tmp_path: Path) -> None:
    with request_path(CATALOG, tmp_path) as services:
        services["inference"].stop()
        status, answer = ask(services, "/v1/summaries", text=TEXT)
        assert (status, answer["type"].rpartition("/")[2]) == (503, "unavailable"), answer
        assert ask(services, "/v1/embeddings", input="a", model="intent.mini")[0] == 503
