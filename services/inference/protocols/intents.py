"""`POST /v1/intents`: one text, or a batch of them, to intents."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from services.common.asgi import Receive, Scope, Send, read_body, send_json
from services.common.decode import checked_text, decode
from services.common.problems import Problem
from services.common.slots import behind
from services.contracts.messages import Alternative, Slot
from services.inference.outcomes import problem_of
from services.inference.texts import Asked, Texts


class Question(msgspec.Struct, forbid_unknown_fields=True):
    """The body: `text` or `texts`. model: `<model>`, or `<model>.<tier>` for a certain tier."""

    text: Annotated[str | None, Meta(examples=["turn on the light in the kitchen"])] = None
    texts: list[str] | None = None
    model: str = "intent"
    top_k: Annotated[int, Meta(ge=1, le=10)] = 3


class Items(msgspec.Struct):
    """The answer to several texts: `status` and `body` for each, an answer or a problem."""

    items: list[dict[str, Any]]


class Answer(msgspec.Struct):
    """An answer; milliseconds in `timings_ms`; slots of the text as it was sent, of a model that marks some."""

    intent: str
    score: float
    alternatives: list[Alternative]
    in_scope: bool
    model: str
    tier: str
    version: str
    timings_ms: dict[str, float]
    slots: list[Slot] | UnsetType = UNSET


_questions = msgspec.json.Decoder(Question)
_encoder = msgspec.json.Encoder()


class Intents:
    """The route, over the models that answer it."""

    def __init__(self, texts: Texts, max_body_bytes: int) -> None:
        self._texts = texts
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one text with an answer or its problem, several with `items`, each with a status of its own."""
        question = decode(_questions, await read_body(receive, self._max_body_bytes))
        if (question.text is None) == (question.texts is None):
            raise Problem(
                400,
                "missing-field",
                "Missing field",
                "text, or texts for several, is required, not both",
                field="text",
            )
        if question.text is not None:
            text = checked_text(question.text, "text")
            asked = await self._texts.ask(question.model, [text], top_k=question.top_k, slots=True)
            if asked.outcomes[0].status != 200:
                raise problem_of(asked.outcomes[0])
            await send_json(send, _encoder.encode(_answer(asked, 0, question.text)))
            return
        several = question.texts or []
        if not 1 <= len(several) <= self._texts.max_items:
            raise Problem(
                400, "out-of-range", "Out of range",
                f"texts: {len(several)} in one call; 1 to {self._texts.max_items} are taken", field="texts",
            )  # fmt: skip
        items: list[dict[str, Any]] = [{} for _ in several]
        good = []
        for at, text in enumerate(several):
            try:
                good.append((at, checked_text(text, f"texts[{at}]")))
            except Problem as problem:
                items[at] = {"status": problem.status, "body": problem.document()}
        asked = await self._texts.ask(
            question.model, [text for _, text in good], top_k=question.top_k, slots=True
        )
        for number, (at, _) in enumerate(good):
            outcome = asked.outcomes[number]
            if outcome.status == 200:
                items[at] = {"status": 200, "body": _answer(asked, number, several[at])}
            else:
                items[at] = {"status": outcome.status, "body": problem_of(outcome).document()}
        await send_json(send, _encoder.encode(Items(items)))


def _answer(asked: Asked, number: int, sent: str) -> Answer:
    outcome = asked.outcomes[number]
    slots: list[Slot] | UnsetType = UNSET
    if asked.slots is not None:
        # White space at the ends is left out before a text is read.
        slots = behind(asked.slots[number], len(sent) - len(sent.lstrip()))
    timings = {
        "total": round(asked.total_ms, 3),
        "queue": outcome.queue_ms or 0.0,
        "infer": outcome.run_ms or 0.0,
    }
    card = asked.card
    return Answer(
        outcome.intent or "",
        outcome.score or 0.0,
        outcome.alternatives or [],
        outcome.in_scope,
        card.model,
        card.tier,
        card.version,
        timings,
        slots,
    )
