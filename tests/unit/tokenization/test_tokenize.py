"""Tokenization: ids, truncation, unknown models, any script, a catalog that changes."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from services.common.catalog import CatalogError, read_card
from services.tokenization.app import create
from services.tokenization.settings import Settings
from services.tokenization.vocabularies import Vocabularies
from tests.unit.common.catalog import MAX_TOKENS, WORDS, write_card, write_entry
from tests.unit.common.client import TOKEN, problem, validate, with_app

UNKNOWN = WORDS.index("[UNK]")


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    write_entry(tmp_path)
    return tmp_path


def settings(catalog: Path, **more: Any) -> Settings:
    return Settings(catalog=catalog, app_api_token=SecretStr(TOKEN), **more)


async def tokenize(client: httpx.AsyncClient, *texts: str, **more: Any) -> dict[str, Any]:
    request = {"model": "intent", "texts": list(texts), **more}
    validate("tokenize-request", request)
    response = await client.post("/v1/tokenize", json=request)
    assert response.status_code == 200, response.text
    validate("tokenize-response", response.json())
    answer: dict[str, Any] = response.json()
    return answer


def test_texts_become_ids_in_order_cut_at_what_the_model_reads(catalog: Path) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        texts = ["turn on the light", "Play  MUSIC", "w1 " * (MAX_TOKENS + 5), "w1 " * MAX_TOKENS]
        answer = await tokenize(client, *texts)
        at = WORDS.index
        assert answer["ids"][:2] == [
            [at("turn"), at("on"), at("the"), at("light")],
            [at("play"), at("music")],
        ]
        assert answer["ids"][2] == answer["ids"][3] == [at("w1")] * MAX_TOKENS
        assert answer["truncated"] == [False, False, True, False]
        nothing = await tokenize(client)
        assert (nothing["ids"], nothing["truncated"]) == ([], [])
        assert nothing["tokenizer"] == answer["tokenizer"] == read_card(catalog / "intent/tiny").tokenizer
        assert (await tokenize(client, "turn", tier="tiny"))["ids"] == [[at("turn")]]

    with_app(create(settings(catalog)), test)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\x00",
        "a\x00b",
        "включи свет",
        "打开灯",
        "أشعل الضوء",
        "🔆🙂",
        "\u200b\ufeff",
        "e\u0301",
        "\U0010ffff",
        "\n" * 2000,
    ],
)
def test_any_text_has_at_least_one_token(catalog: Path, text: str) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        ids = (await tokenize(client, text, "turn"))["ids"]
        assert 1 <= len(ids[0]) <= MAX_TOKENS and set(ids[0]) == {UNKNOWN}
        assert ids[1] == [WORDS.index("turn")]

    with_app(create(settings(catalog)), test)


def test_unknown_models_are_refused_naming_the_known(catalog: Path) -> None:
    write_entry(catalog, model="banking", tier="mini")

    async def test(client: httpx.AsyncClient) -> None:
        response = await client.post("/v1/tokenize", json={"model": "tyni", "texts": ["a"]})
        document = problem(response, 404, "unknown-model")
        assert document["known"] == ["banking", "intent"] and "'tyni'" in document["detail"]
        response = await client.post("/v1/tokenize", json={"model": "intent", "tier": "huge", "texts": ["a"]})
        assert problem(response, 404, "unknown-model")["known"] == ["banking.mini", "intent.tiny"]
        await tokenize(client, "a", model="banking")

    with_app(create(settings(catalog)), test)


@pytest.mark.parametrize(
    ("body", "slug", "field"),
    [
        (b"", "bad-json", None),
        (b'{"model":"intent","texts":["\\ud800"]}', "bad-json", None),
        (b'{"model":"intent"}', "missing-field", "texts"),
        (b'{"model":"intent","texts":"a"}', "wrong-type", "texts"),
        (b'{"model":"intent","texts":["a",1]}', "wrong-type", "texts[1]"),
        (b'{"model":1,"texts":[]}', "wrong-type", "model"),
        (b'{"model":"intent","texts":[' + b'"a",' * 256 + b'"a"]}', "out-of-range", "texts"),
    ],
)
def test_bad_bodies_are_named(catalog: Path, body: bytes, slug: str, field: str | None) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        assert problem(await client.post("/v1/tokenize", content=body), 400, slug).get("field") == field

    with_app(create(settings(catalog)), test)


def test_health_answers_while_a_large_call_is_encoded(catalog: Path) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        large = [f"w{n % 100} " * 600 for n in range(256)]
        encoding = asyncio.create_task(tokenize(client, *large))
        slowest = 0.0
        answered = 0
        while not encoding.done():
            start = time.perf_counter()
            assert (await client.get("/healthz")).status_code == 200
            slowest = max(slowest, time.perf_counter() - start)
            answered += 1
            await asyncio.sleep(0.001)
        answer = await encoding
        assert len(answer["ids"]) == 256 and all(answer["truncated"])
        assert answered >= 3

    with_app(create(settings(catalog, inline_characters=0)), test)


def test_large_calls_beyond_the_bound_are_shed(catalog: Path) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        large = {"model": "intent", "texts": ["w1 " * 600] * 256}
        responses = await asyncio.gather(*(client.post("/v1/tokenize", json=large) for _ in range(5)))
        statuses = sorted(response.status_code for response in responses)
        assert statuses[0] == 200 and statuses[-1] == 503
        problem(next(one for one in responses if one.status_code == 503), 503, "overloaded")

    with_app(create(settings(catalog, inline_characters=0, max_threaded_calls=1)), test)


def test_models_that_appear_are_served_and_broken_ones_change_nothing(catalog: Path) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        async def models() -> list[str]:
            found: list[str] = (await client.get("/v1/models")).json()["models"]
            return found

        folder = write_entry(catalog, model="banking")
        await until(models, ["banking.tiny", "intent.tiny"])
        await tokenize(client, "turn", model="banking")
        (folder / "tokenizer.json").write_text("{}")
        write_card(folder, model="banking", version="2")
        await asyncio.sleep(0.1)
        await tokenize(client, "turn", model="banking")
        (folder / "card.json").unlink()
        await until(models, ["intent.tiny"])

    async def until(look: Any, wanted: list[str]) -> None:
        for _ in range(500):
            if await look() == wanted:
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"never saw {wanted}")

    with_app(create(settings(catalog, watch_s=0.02)), test)


def test_a_tokenizer_that_is_not_the_cards_is_refused_at_start(catalog: Path) -> None:
    path = catalog / "intent" / "tiny" / "tokenizer.json"
    path.write_text(path.read_text() + " ")
    with pytest.raises(CatalogError, match=r"tokenizer\.json is not the file its card describes"):
        Vocabularies(catalog, "tiny")
    path.write_text("{}")
    write_card(path.parent)
    with pytest.raises(CatalogError, match="is not a tokenizer"):
        Vocabularies(catalog, "tiny")


def test_an_empty_catalog_is_not_ready(tmp_path: Path) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        problem(await client.get("/readyz"), 503, "unavailable")
        assert (await client.get("/healthz")).status_code == 200

    with_app(create(settings(tmp_path)), test)


def test_entries_that_use_one_artefact_share_its_tokenizer(tmp_path: Path) -> None:
    folder = write_entry(tmp_path)
    write_entry(tmp_path, model="other")
    (tmp_path / "third/tiny").mkdir(parents=True)
    card = json.loads((folder / "card.json").read_text()) | {"model": "third", "weights": "intent/tiny"}
    (tmp_path / "third/tiny/card.json").write_text(json.dumps(card))
    vocabularies = Vocabularies(tmp_path, "tiny")
    one, two, three = (vocabularies.find(model, None) for model in ("intent", "other", "third"))
    assert one._tokenizer is two._tokenizer is three._tokenizer
    assert three.encode(["turn on"]) == one.encode(["turn on"])


@pytest.mark.parametrize("weights", ["../secret", "intent/huge", "/etc"])
def test_weights_that_are_not_in_the_catalog_are_refused(tmp_path: Path, weights: str) -> None:
    folder = write_entry(tmp_path)
    (tmp_path / "third/tiny").mkdir(parents=True)
    card = json.loads((folder / "card.json").read_text()) | {"model": "third", "weights": weights}
    (tmp_path / "third/tiny/card.json").write_text(json.dumps(card))
    with pytest.raises(CatalogError, match=r"cannot be read|weights must be"):
        Vocabularies(tmp_path, "tiny")
