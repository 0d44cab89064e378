"""The messages of the request path as Python types; the schemas beside this file say the same for every
language.

Unknown members are ignored between services, so that a newer caller can talk to an older callee during an
upgrade. Times are milliseconds; `deadline_ms` is the time that is left, not a point in time, since clocks
differ.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

OUT_OF_SCOPE = "out_of_scope"
"""The intent of a text that belongs to none that the model knows."""


class TokenizeRequest(Struct):
    """Routing asks tokenization; without `tier` the model's default tier is meant. `tokenizer` names the one that
    inference wants the ids of, where that is known; `offsets`: where each token is in its text is wanted too."""

    model: str
    texts: list[str]
    tier: str | None = None
    tokenizer: str | None = None
    offsets: bool = False


class TokenizeReply(Struct, omit_defaults=True):
    """Token ids per text, in order; `truncated` tells whose text was longer than the model reads, `tokenizer` whose
    ids they are; `offsets`, where they were wanted, (start, end) of each token in characters of its text."""

    ids: list[list[int]]
    truncated: list[bool]
    tokenizer: str = ""
    offsets: list[list[tuple[int, int]]] | None = None


class InferItem(Struct):
    """One text's token ids; `top_k` runners-up are wanted, `deadline_ms` is left for it. `continues`, for each token
    what `services.common.slots` calls it, asks a model that marks slots for them."""

    ids: list[int]
    top_k: int = 3
    deadline_ms: float = 5000.0
    continues: list[int] | UnsetType = UNSET


class InferRequest(Struct):
    """Routing asks inference. `tokenizer` names the one that made the ids; others than the model's are refused."""

    model: str
    tier: str
    items: list[InferItem]
    tokenizer: str | None = None


class InferRequestRaw(Struct):
    """The same request with its items unread, for the case that one of them is not an item."""

    model: str
    tier: str
    items: list[Raw]
    tokenizer: str | None = None


class Alternative(Struct):
    """A runner-up: its intent and probability."""

    intent: str
    score: float


class Mark(Struct):
    """A slot as a model finds it: its type, and the numbers of its first and last token."""

    type: str
    first: int
    last: int


class Slot(Struct):
    """A slot of a text: `value` is what is there from `start` to `end`, in characters (code points)."""

    type: str
    value: str
    start: int
    end: int


class InferOutcome(Struct, omit_defaults=True):
    """What became of one item: 200 with an answer, else 400, 503 or 504 with a `reason`. An answer that is not
    `in_scope` has the intent OUT_OF_SCOPE, and the model's guess is the first of its alternatives. `marks` are its
    slots, where they were asked for."""

    status: int
    intent: str | None = None
    score: float | None = None
    alternatives: list[Alternative] | None = None
    queue_ms: float | None = None
    run_ms: float | None = None
    in_scope: bool = True
    marks: list[Mark] | None = None
    reason: str | None = None
    detail: str | None = None
    retry_after_s: float | None = None


class InferReply(Struct):
    """Inference answers: who ran which model, and one outcome per item, in order."""

    model: str
    tier: str
    version: str
    replica: str
    items: list[InferOutcome]


class EmbedRequest(Struct):
    """Routing asks inference for the vectors of token ids, or for the places of the `central` ones that are most like
    all the others. `tokenizer` as in `InferRequest`."""

    model: str
    tier: str
    items: list[list[int]]
    deadline_ms: float = 5000.0
    tokenizer: str | None = None
    central: Annotated[int, Meta(ge=1, le=256)] | UnsetType = UNSET


class EmbedReply(Struct):
    """Inference answers: a vector for each item, its little-endian float32 in base64; or places, ascending."""

    model: str
    tier: str
    version: str
    replica: str
    vectors: list[str] = []
    central: list[int] = []


class IntentsItem(Struct):
    """One user's request inside a coalesced call: `body` is what the user sent, as it came."""

    body: str
    deadline_ms: float
    traceparent: str | None = None


class IntentsRequest(Struct):
    """The gateway asks routing."""

    items: list[IntentsItem]


class Timings(Struct):
    """Where the time of one answer went, in milliseconds."""

    total: float
    tokenize: float
    queue: float
    infer: float


class Answer(Struct):
    """What the user gets. degraded: it comes from the cache because the mesh could not compute it, or from a smaller
    tier because the queue of the one that was chosen is full; reason: why this tier answered; slots: of a model that
    marks some; context: the earlier text of the session that it was read with."""

    intent: str
    score: float
    alternatives: list[Alternative]
    in_scope: bool
    model: str
    tier: str
    version: str
    degraded: bool
    timings_ms: Timings
    trace_id: str | None
    replica: str
    reason: str
    slots: list[Slot] | UnsetType = UNSET
    context: str | UnsetType = UNSET


class IntentsOutcome(Struct, omit_defaults=True):
    """One item of routing's reply: an HTTP status and the body that belongs to it."""

    status: int
    body: Answer | dict[str, Any]
    retry_after_s: float | None = None


class IntentsReply(Struct):
    """Routing answers the gateway, one outcome per item, in order."""

    items: list[IntentsOutcome]
