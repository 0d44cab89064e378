"""A request goes all the way; a bad one gets a problem document and nothing else changes."""

from __future__ import annotations

import concurrent.futures
import json
import secrets
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.local.environments import interpreter
from tests.mesh.harness import LEASH, TEXTS, RunningMesh, until

CATALOG = Path(__file__).parents[2] / "models/catalog/intent"


def test_a_request_is_answered_end_to_end(mesh: RunningMesh) -> None:
    status, answer = mesh.ask("turn on the kitchen light")
    assert status == 200, answer
    assert answer["intent"] == "iot_hue_lighton"
    assert 0 < answer["score"] <= 1
    assert answer["replica"] == "inference-1"
    assert answer["degraded"] is False
    assert answer["timings_ms"]["total"] > 0


def test_concurrent_requests_get_their_own_answers_and_share_hops(mesh: RunningMesh) -> None:
    expected = {text: mesh.ask(text)[1]["intent"] for text in TEXTS}
    assert len(set(expected.values())) >= 5
    before = mesh.client.hops()["mtls"]
    work = TEXTS * 100
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda text: (text, mesh.ask(text)), work))
    for text, (status, answer) in answers:
        assert status == 200, answer
        assert answer["intent"] == expected[text]
    hops = mesh.client.hops()["mtls"] - before
    assert 0 < hops < 3 * len(work), "with coalescing a request costs less than its three hops"


def test_hops_were_mtls_and_none_was_plaintext(mesh: RunningMesh) -> None:
    mesh.ask()
    hops = mesh.client.hops()
    assert hops["mtls"] >= 3
    assert hops["plaintext"] == 0


def test_a_request_gets_the_tier_that_it_asks_for_and_is_told_why(mesh: RunningMesh) -> None:
    def asked(**more: Any) -> dict[str, Any]:
        status, answer = mesh.ask("turn on the kitchen light", **more)
        assert status == 200, answer
        return answer

    usual = asked()
    assert (usual["tier"], usual["reason"]) == ("tiny", "the preferred tier")
    accuracy = {
        tier: json.loads((CATALOG / tier / "card.json").read_text())["accuracy"]["test"]
        for tier in ("tiny", "mini")
    }
    assert accuracy["mini"] > accuracy["tiny"]
    floor = accuracy["mini"]  # more than tiny has on its test part
    until(lambda: mesh.ask("hi", min_accuracy=floor)[0] == 200, 30, "routing knows that a replica holds mini")
    chosen = asked(min_accuracy=floor)
    assert chosen["reason"] == f"the fastest with an accuracy of {floor:g} or more"
    assert asked(model="intent.mini")["tier"] == "mini"
    assert asked(latency_budget_ms=20_000)["tier"] == "mini", "the most accurate that a replica holds"
    status, problem = mesh.ask("hi", min_accuracy=0.999)
    assert (status, problem["field"]) == (400, "min_accuracy")


BAD: list[tuple[str, Any, int, str]] = [
    ("not JSON", b"{", 400, "bad-json"),
    ("no body", b"", 400, "bad-json"),
    ("an array", [], 400, "wrong-type"),
    ("empty text", {"text": ""}, 400, "empty-text"),
    ("blank text", {"text": " \t\n"}, 400, "empty-text"),
    ("no text", {}, 400, "missing-field"),
    ("text is a number", {"text": 7}, 400, "wrong-type"),
    ("text is null", {"text": None}, 400, "wrong-type"),
    ("model is a list", {"text": "hi", "model": []}, 400, "wrong-type"),
    ("budget is a word", {"text": "hi", "latency_budget_ms": "soon"}, 400, "wrong-type"),
    ("unknown model", {"text": "hi", "model": "tyni"}, 404, "unknown-model"),
    ("1 MB of text", {"text": "a" * 1_000_000}, 413, "body-too-large"),
    ("too long a text", {"text": "a " * 4000}, 400, "text-too-long"),
    ("not UTF-8", b'{"text": "\xff\xfe"}', 400, "bad-json"),
    ("deeply nested", b'{"text":' + b"[" * 20_000, 400, "wrong-type"),
]


@pytest.mark.parametrize(("what", "body", "status", "slug"), BAD, ids=[b[0] for b in BAD])
def test_bad_input_gets_a_problem_document(
    mesh: RunningMesh, what: str, body: Any, status: int, slug: str
) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    got, headers, problem = mesh.exchange("POST", "/v1/intents", raw, 10)
    assert got == status, problem
    assert headers["content-type"].startswith("application/problem+json")
    assert problem["type"] == f"https://foremesh.dev/problems/{slug}"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert "Traceback" not in json.dumps(problem)
    assert mesh.ask()[0] == 200


@pytest.mark.parametrize(
    "text",
    [
        "allume la lumière de la cuisine",
        "打开厨房的灯",
        "أشعل ضوء المطبخ",
        "включи свет",
        "💡🍳",
        "a\u0000b",
        "e\u0301\u0301\u0301" * 50,
        "\u202e dlrow",
    ],
)
def test_text_in_any_script_is_answered(mesh: RunningMesh, text: str) -> None:
    status, answer = mesh.ask(text)
    assert status == 200, answer


@pytest.mark.parametrize(
    "path",
    ["/", "/v1", "/v1/intents/../models", "/internal/intents", "/metrics", "/v1.0/invoke/routing/method/x"],
)
def test_nothing_else_is_reachable_from_outside(mesh: RunningMesh, path: str) -> None:
    # http.client sends the path as it is; a friendlier client would tidy it up first.
    status, _, document = mesh.exchange("GET", path, None, 10)
    assert status in (400, 404)
    assert "routing" not in document["detail"]


def test_one_trace_spans_gateway_sidecars_and_services(mesh: RunningMesh) -> None:
    trace_id = secrets.token_hex(16)
    reply = httpx.post(
        mesh.settings.gateway_url + "/v1/intents",
        json={"text": TEXTS[0]},
        headers={"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01"},
        timeout=10,
    )
    assert reply.json()["trace_id"] == trace_id

    def services() -> set[tuple[str, str]]:
        found = httpx.get(f"{mesh.settings.jaeger_url}/api/traces/{trace_id}", timeout=5)
        if found.status_code != 200 or not found.json()["data"]:
            return set()
        trace = found.json()["data"][0]
        return {
            (trace["processes"][s["processID"]]["serviceName"], s["operationName"]) for s in trace["spans"]
        }

    # The services' own spans, and those of the sidecars on both sides of each of the three hops, named after the call
    # they carry. Each process sends its spans when its batch is due, so the last come seconds later.
    wanted = {"gateway", "routing", "tokenization", "inference"}
    carried = ("/internal/intents", "/v1/tokenize", "/v1/infer")

    def whole() -> bool:
        seen = services()
        return wanted <= {name for name, _ in seen} and all(
            sum(method in operation for _, operation in seen) == 2 for method in carried
        )

    until(whole, 20, "the whole trace has arrived")


def test_a_session_keeps_its_turns(mesh: RunningMesh) -> None:
    status, created = mesh.post("/v1/sessions", {})
    assert status == 201
    assert mesh.ask("play some jazz", session_id=created["session_id"])[0] == 200

    def turns() -> Any:
        return mesh.get(f"/v1/sessions/{created['session_id']}")[1].get("turns")

    assert until(turns, 5, "the turn is written behind the answer")[0]["text"] == "play some jazz"
    assert mesh.get("/v1/sessions/nobody-made-this")[0] == 404


def test_models_are_listed_from_the_registry(mesh: RunningMesh) -> None:
    def listed() -> Any:
        models = mesh.get("/v1/models")[1].get("models", [])
        return models if sum(bool(model["served"]) for model in models) == 2 else None

    models = until(listed, 10, "the registry knows both models")
    served = {(model["model"], model["tier"]): model["served"] for model in models}
    assert served[("intent", "tiny")] is True and served[("intent", "mini")] is True
    assert sum(served.values()) == 2, "what is in the catalog and not loaded is not claimed to be served"


def test_embeddings_and_summaries_go_through_the_mesh(mesh: RunningMesh) -> None:
    text = (
        "The river rose. Water stood in the old town. A football match took place. The river will fall again."
    )
    status, answer = mesh.post("/v1/summaries", {"text": text, "sentences": 2})
    assert status == 200, answer
    assert answer["of"] == 4 and "football" not in answer["summary"]
    before = mesh.client.hops()["mtls"]
    status, answer = mesh.post("/v1/embeddings", {"input": ["turn it on", "stop"], "model": "intent.mini"})
    assert status == 200, answer
    assert [len(row["embedding"]) for row in answer["data"]] == [384, 384]
    assert mesh.client.hops()["mtls"] >= before + 3, (
        "gateway, routing, tokenization and inference, each by mTLS"
    )
    assert mesh.post("/v1/embeddings", {"input": "a", "model": "nobody"})[0] == 404


OPENAI = """
import sys, openai
client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="none", max_retries=0)
found = client.embeddings.create(input=["turn it on", "stop"], model="intent.mini")
assert [len(one.embedding) for one in found.data] == [384, 384] and found.usage.total_tokens > 3
try:
    client.embeddings.create(input=" ", model="intent.mini")
except openai.BadRequestError as error:
    assert "is empty" in str(error), error
else:
    raise AssertionError("an empty text has no vector")
"""


def test_the_public_openai_client_embeds_through_the_gateway(mesh: RunningMesh) -> None:
    python = interpreter(Path(__file__).parents[2] / "requirements/clients.lock")
    command = [*LEASH, str(python), "-c", OPENAI, mesh.settings.gateway_url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_conversation_keeps_its_intent(mesh: RunningMesh) -> None:
    """Real tiers, a real session in Redis."""
    _, session = mesh.post("/v1/sessions", {})
    first = mesh.ask("turn off the light in the kitchen", session_id=session["session_id"])[1]
    assert first["intent"] == "iot_hue_lightoff" and "context" not in first

    def leaning() -> dict[str, Any]:
        status, answer = mesh.ask("and the bedroom", session_id=session["session_id"])
        assert status == 200, answer
        return answer

    answer = leaning()
    assert answer["intent"] == "iot_hue_lightoff"
    assert answer["context"] == "turn off the light in the kitchen"
    assert mesh.ask("and the bedroom")[1].get("context") is None, "of nobody else's conversation"
    new = mesh.ask("and play some music", session_id=session["session_id"])[1]
    assert new["intent"] == "play_music" and "context" not in new
