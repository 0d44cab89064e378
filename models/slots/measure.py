"""Measuring an exported command parser in ONNX Runtime, the way it will be served: alone, and in batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.intents import measure
from models.intents.measure import Leak
from models.lessons import UNKNOWN_ID
from models.slots.annotations import Command, EntityScore, Span, score, score_by_type
from models.slots.corpus import Names
from models.slots.decode import decode
from models.slots.export import INTENTS, TAGS

Floats = NDArray[np.float32]


class Read(NamedTuple):
    """A sentence as a model reads it: token ids, and where each token is in the text."""

    text: str
    ids: list[int]
    offsets: list[tuple[int, int]]


class Parsed(NamedTuple):
    """What a model makes of a sentence."""

    intent: str
    spans: list[Span]


class Both:
    """A session of which every run gives both outputs, so that what is timed and compared is all that is served."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session

    def run(self, outputs: Sequence[str], feed: Mapping[str, Any]) -> list[Floats]:
        """`outputs` is what `models.intents.measure` asks for, the first of the two."""
        return list(self._session.run([INTENTS, TAGS], feed))


def read(tokenizer: Tokenizer, texts: Sequence[str], longest: int) -> list[Read]:
    """Each text, cut to `longest` tokens; one unknown token where there is none."""
    return [
        Read(text, encoding.ids[:longest] or [UNKNOWN_ID], encoding.offsets[:longest] or [(0, 0)])
        for text, encoding in zip(texts, tokenizer.encode_batch(list(texts)), strict=True)
    ]


def scores(session: ort.InferenceSession, sentences: Sequence[Read]) -> list[tuple[Floats, Floats]]:
    """Intents' scores [intents] and tags' [tokens, tags] of sentences that run together, padding taken off."""
    lengths = np.array([len(one.ids) for one in sentences], np.int64)
    ids = np.zeros((len(sentences), lengths.max()), np.int64)
    for row, one in enumerate(sentences):
        ids[row, : len(one.ids)] = one.ids
    intents, tags = session.run([INTENTS, TAGS], {"ids": ids, "lengths": lengths})
    return [(intents[row], tags[row, :length]) for row, length in enumerate(lengths)]


def parsed(scored: tuple[Floats, Floats], sentence: Read, names: Names) -> Parsed:
    """The intent with the best score, and the slots."""
    spans = decode(scored[1], sentence.offsets, sentence.text, names.tags)
    return Parsed(names.labels[int(scored[0].argmax())], spans)


class Outcome(NamedTuple):
    """How a model did on a part: share (0..1) of the intents that are right and of the sentences with intent and every
    slot right; slots in all and by type; recall and most frequent mistake by intent are in `intents`."""

    accuracy: float
    exact: float
    entities: EntityScore
    by_type: Mapping[str, EntityScore]
    intents: Sequence[tuple[str, str]]


def outcome(
    session: ort.InferenceSession,
    tokenizer: Tokenizer,
    commands: Sequence[Command],
    names: Names,
    longest: int,
) -> Outcome:
    """Parse each command alone, as a request that meets no other, and compare. `intents` are (wanted, given)."""
    sentences = read(tokenizer, [command.text for command in commands], longest)
    found = [parsed(scores(session, [one])[0], one, names) for one in sentences]
    right = [one.intent == command.intent for one, command in zip(found, commands, strict=True)]
    all_right = [
        intent and set(one.spans) == set(command.spans)
        for intent, one, command in zip(right, found, commands, strict=True)
    ]
    wanted, given = [command.spans for command in commands], [one.spans for one in found]
    return Outcome(
        float(np.mean(right)),
        float(np.mean(all_right)),
        score(wanted, given),
        score_by_type(wanted, given),
        [(command.intent, one.intent) for command, one in zip(commands, found, strict=True)],
    )


def leak(session: ort.InferenceSession, sentences: Sequence[Read], names: Names, batch: int) -> Leak:
    """What neighbours change in an item's answer: largest difference of a score of either head, sentences whose intent
    or slots become others."""
    largest, flipped = 0.0, 0
    for start in range(0, len(sentences), batch):
        part = sentences[start : start + batch]
        for one, together in zip(part, scores(session, part), strict=True):
            alone = scores(session, [one])[0]
            largest = max(
                largest, *(float(np.abs(a - b).max()) for a, b in zip(alone, together, strict=True))
            )
            flipped += parsed(alone, one, names) != parsed(together, one, names)
    return Leak(largest, flipped)


def speeds(sessions: Sequence[ort.InferenceSession], tokens: int) -> list[dict[int, float]]:
    """As `models.intents.measure.speeds`, both outputs in every run."""
    return measure.speeds([Both(session) for session in sessions], tokens)
