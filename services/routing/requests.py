"""What a user asks: reading and checking the body of `POST /v1/intents`."""

from __future__ import annotations

import json
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from services.common.decode import checked_text, decode
from services.common.problems import Problem, bad_json

DEFAULT_TOP_K = 3
MAX_TEXTS = 64
"""Of one request."""

DEFAULT_MODEL = "intent"
SESSION_ID = r"^[A-Za-z0-9_-]{1,64}\Z"

SessionId = Annotated[str, Meta(pattern=SESSION_ID)]


class IntentRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body as it came; a field that is absent is `UNSET`, so null is a wrong type. One of `text` and `texts`."""

    text: str | UnsetType = UNSET
    texts: list[str] | UnsetType = UNSET
    model: str | UnsetType = UNSET
    latency_budget_ms: Annotated[float, Meta(gt=0, le=60000)] | UnsetType = UNSET
    session_id: SessionId | UnsetType = UNSET
    top_k: Annotated[int, Meta(ge=1, le=10)] | UnsetType = UNSET
    min_accuracy: Annotated[float, Meta(ge=0, le=1)] | UnsetType = UNSET


class SessionRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /v1/sessions`."""

    session_id: SessionId | UnsetType = UNSET


class Asked(msgspec.Struct):
    """A request that was found good; `text` is stripped, of `before` characters at its begin; `budget_ms` and
    `min_accuracy` are None when the user named none."""

    text: str
    before: int
    model: str
    top_k: int
    budget_ms: float | None
    session_id: str | None
    min_accuracy: float | None


_requests = msgspec.json.Decoder(IntentRequest)
_sessions = msgspec.json.Decoder(SessionRequest)


def read_request(body: str | bytes) -> Asked | list[Asked | Problem]:
    """Return what `body` asks for, for several texts an item for each, which may be its problem; raises a 400 `Problem`
    that names the field which is wrong."""
    request = decode(_requests, body)
    named = (
        (request.text is not UNSET)
        + (request.texts is not UNSET)
        + (request.model is not UNSET)
        + (request.latency_budget_ms is not UNSET)
        + (request.session_id is not UNSET)
        + (request.top_k is not UNSET)
        + (request.min_accuracy is not UNSET)
    )
    # A member takes one colon: as many colons as members means that none was given twice.
    if (body.count(":") if isinstance(body, str) else body.count(b":")) != named:
        refuse_duplicates(body)
    if request.text is not UNSET and request.texts is not UNSET:
        raise Problem(
            400, "out-of-range", "Out of range", "texts: text is given as well; give one", field="texts"
        )
    if request.text is not UNSET:
        return _asked(request, request.text, "text")
    if request.texts is UNSET:
        raise Problem(
            400, "missing-field", "Missing field", "text is required, or texts for several", field="text"
        )
    if request.session_id is not UNSET:
        raise Problem(
            400, "out-of-range", "Out of range", "session_id: several texts are no turn; ask one by one",
            field="session_id",
        )  # fmt: skip
    if not 1 <= len(request.texts) <= MAX_TEXTS:
        raise Problem(
            400, "out-of-range", "Out of range",
            f"texts: {len(request.texts)} in one call; 1 to {MAX_TEXTS} are taken", field="texts",
        )  # fmt: skip
    several: list[Asked | Problem] = []
    for at, text in enumerate(request.texts):
        try:
            several.append(_asked(request, text, f"texts[{at}]"))
        except Problem as problem:
            several.append(problem)
    return several


def _asked(request: IntentRequest, text: str, field: str) -> Asked:
    return Asked(
        checked_text(text, field),
        len(text) - len(text.lstrip()),
        DEFAULT_MODEL if request.model is UNSET else request.model,
        DEFAULT_TOP_K if request.top_k is UNSET else request.top_k,
        None if request.latency_budget_ms is UNSET else request.latency_budget_ms,
        None if request.session_id is UNSET else request.session_id,
        None if request.min_accuracy is UNSET else request.min_accuracy,
    )


def read_session_request(body: bytes) -> str | None:
    """Return the session id that `body` chooses, or None; raises a 400 `Problem`."""
    if not body.strip():
        return None
    request = decode(_sessions, body)
    refuse_duplicates(body)
    return None if request.session_id is UNSET else request.session_id


def refuse_duplicates(body: str | bytes) -> None:
    """Raise a 400 `Problem` when an object in `body`, which is JSON, gives a field twice: which one counts is
    a guess.
    """
    try:
        json.loads(body, object_pairs_hook=_members)
    except (ValueError, RecursionError) as error:
        raise bad_json(f"the body cannot be read as JSON: {error}") from None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, value in pairs:
        if key in members:
            raise Problem(400, "duplicate-field", "Duplicate field", f"{key}: is given twice", field=key)
        members[key] = value
    return members
