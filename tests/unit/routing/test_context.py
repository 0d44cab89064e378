"""Turns that lean on the one before: told from others by how they sound and how sure the model is, on a set of our own
and the real models."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from services.common.catalog import read_card
from services.common.vocabulary import Vocabulary
from services.contracts.messages import Answer, InferOutcome, Slot, Timings
from services.inference.model import Model, Query
from services.routing import context
from services.routing.sessions import Turn
from tests.unit.common.client import problem, validate
from tests.unit.routing.upstream import Mesh, with_mesh

CATALOG = Path(__file__).parents[3] / "models/catalog"
SET = Path(__file__).parent / "conversations.tsv"


class Turns(NamedTuple):
    """A row of the set: two turns, the intent of the second, and whether it leans on the first."""

    part: str
    before: str
    text: str
    intent: str
    follows: str


def rows(part: str) -> list[Turns]:
    with SET.open(encoding="utf-8", newline="") as file:
        found = [Turns(**row) for row in csv.DictReader(file, delimiter="\t")]
    return [row for row in found if row.part == part]


def asks(tier: str) -> Callable[[str], Answer]:
    card = read_card(CATALOG / "intent" / tier)
    model, vocabulary = Model(card, max_batch=1), Vocabulary(card)

    def ask(text: str) -> Answer:
        (outcome,) = model.run([Query(vocabulary.encode([text])[0][0], 3)])
        return answer(outcome)

    return ask


def answer(outcome: InferOutcome) -> Answer:
    return Answer(
        outcome.intent or "", outcome.score or 0.0, [], outcome.in_scope, "intent", "tiny", "1", False,
        Timings(0.0, 0.0, 0.0, 0.0), None, "r", "why",
    )  # fmt: skip


def understood(ask: Callable[[str], Answer], row: Turns) -> tuple[str, bool]:
    """The intent of the second turn, and whether the first had a say in it."""
    alone = ask(row.text)
    if not context.wanted(alone, row.text):
        return alone.intent, False
    together = ask(context.joined(row.before, row.text))
    leans = context.better(alone, together)
    return (together if leans else alone).intent, leans


@pytest.mark.parametrize("tier", ["tiny", "mini", "base"])
@pytest.mark.parametrize("part", ["dev", "test"])
def test_turns_are_understood_with_those_before_them_and_new_wishes_without(tier: str, part: str) -> None:
    ask, wanted = asks(tier), rows(part)
    found = [understood(ask, row) for row in wanted]
    right = [intent == row.intent for (intent, _), row in zip(found, wanted, strict=True)]
    alone = [ask(row.text).intent == row.intent for row in wanted]
    wrong = [(row.text, intent) for row, (intent, _), ok in zip(wanted, found, right, strict=True) if not ok]
    assert sum(right) >= 0.9 * len(wanted), wrong
    assert sum(right) >= sum(alone) + 0.35 * len(wanted), "or the turn before is worth little"
    leaning = [leans for (_, leans), row in zip(found, wanted, strict=True) if row.follows == "no"]
    assert sum(leaning) <= 1, "a new wish is taken for what it says"


def test_long_texts_and_whole_sentences_lean_on_nothing() -> None:
    assert context.leans_back("and the bedroom") and context.leans_back("the hall too!")
    assert not context.leans_back("turn on the light in the bedroom")
    assert not context.leans_back("and now I would like you to turn on every light there is")
    assert not context.leans_back("Andrea likes the light"), "a word that begins like one is none"


def test_a_chain_leans_on_the_turn_that_stood_by_itself() -> None:
    first = Turn("turn on the light", "on", 0.9, 1.0)
    second = Turn("and the hall", "on", 0.9, 2.0, context="turn on the light")
    assert context.ground([]) is None
    assert context.ground([first]) == context.ground([first, second]) == "turn on the light"


def test_slots_of_both_texts_are_those_of_the_later_one() -> None:
    both = context.joined("light in the hall", "and the bed")
    slots = [Slot("place", "hall", 13, 17), Slot("place", "bed", 26, 29)]
    assert both[26:29] == "bed"
    assert context.of_the_later(slots, "light in the hall", 2) == [Slot("place", "bed", 10, 13)]


async def session(mesh: Mesh) -> str:
    made = await mesh.client.post("/v1/sessions", content=b"")
    return str(made.json()["session_id"])


def test_a_session_gives_context_and_says_so(catalog: Path) -> None:
    async def test(mesh: Mesh) -> None:
        name = await session(mesh)
        first = (await mesh.ask("turn on the light", session_id=name)).json()
        assert "context" not in first
        found = await mesh.ask("and the bedroom", session_id=name)
        validate("intents-response", found.json())
        assert found.json()["context"] == "turn on the light"
        assert found.json()["intent"] == f"intent_{len('turn on the light and the bedroom')}"
        third = (await mesh.ask("the hall too", session_id=name)).json()
        assert third["context"] == "turn on the light"
        kept = (await mesh.client.get(f"/v1/sessions/{name}")).json()
        validate("session", kept)
        assert [turn["text"] for turn in kept["turns"]] == [
            "turn on the light",
            "and the bedroom",
            "the hall too",
        ]
        assert [turn.get("context") for turn in kept["turns"]] == [
            None,
            "turn on the light",
            "turn on the light",
        ]

    with_mesh(catalog, test)


def test_without_a_session_or_turns_there_is_no_context(catalog: Path) -> None:
    async def test(mesh: Mesh) -> None:
        assert "context" not in (await mesh.ask("and the bedroom")).json()
        assert "context" not in (await mesh.ask("and the bedroom", session_id=await session(mesh))).json()
        assert "context" not in (await mesh.ask("and the bedroom", session_id="never-made")).json()
        other = await session(mesh)
        await mesh.ask("turn on the light", session_id=await session(mesh))
        assert "context" not in (await mesh.ask("and the hall", session_id=other)).json(), (
            "of another session"
        )

    with_mesh(catalog, test)


def test_a_store_that_is_away_costs_the_context_and_not_the_answer(catalog: Path) -> None:
    async def test(mesh: Mesh) -> None:
        name = await session(mesh)
        await mesh.ask("turn on the light", session_id=name)
        mesh.sidecar.down = True
        found: dict[str, Any] = (await mesh.ask("and the bedroom", session_id=name)).json()
        assert found["intent"].startswith("intent_")

    with_mesh(catalog, test)


def test_several_texts_get_an_answer_or_a_problem_each(catalog: Path) -> None:
    async def test(mesh: Mesh) -> None:
        response = await mesh.client.post("/v1/intents", json={"texts": ["one", " ", " three"], "top_k": 1})
        assert response.status_code == 200
        validate("intents-coalesced-response", response.json())
        first, second, third = response.json()["items"]
        assert (first["body"]["intent"], third["body"]["intent"]) == ("intent_3", "intent_5")
        assert second["status"] == 400 and second["body"]["field"] == "texts[1]"
        assert mesh.upstream.sizes("infer") == [2], "they share their calls"
        (inner,) = await mesh.coalesced({"body": '{"texts":["one","three"]}'})
        assert [row["body"]["intent"] for row in inner["body"]["items"]] == ["intent_3", "intent_5"]

    with_mesh(catalog, test)


@pytest.mark.parametrize(
    ("body", "slug", "field"),
    [
        ({}, "missing-field", "text"),
        ({"text": "a", "texts": ["b"]}, "out-of-range", "texts"),
        ({"texts": []}, "out-of-range", "texts"),
        ({"texts": ["a"] * 65}, "out-of-range", "texts"),
        ({"texts": ["a", 1]}, "wrong-type", "texts[1]"),
        ({"texts": "a"}, "wrong-type", "texts"),
        ({"texts": ["a"], "session_id": "s"}, "out-of-range", "session_id"),
    ],
)
def test_bad_lots_of_texts_are_named(catalog: Path, body: dict[str, Any], slug: str, field: str) -> None:
    async def test(mesh: Mesh) -> None:
        assert problem(await mesh.client.post("/v1/intents", json=body), 400, slug)["field"] == field

    with_mesh(catalog, test)
