"""Commands as batches to learn from: other values in their slots and another spelling in every epoch, the spans right.

Swapping a slot's value for another one of its type is what Raiman and Miller 2017 ("Globally Normalized Reader") call
type swaps: where a value may stand is learnt apart from which values there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.batches import batches, pad
from models.intents.utterances import NUMERALS, WAKE_WORDS
from models.lessons import UNKNOWN_ID
from models.slots.annotations import NOT_TAGGED, Command, Span, to_tags
from models.slots.teacher import Teacher

Values = Mapping[str, Sequence[str]]
"""Values by the type of their slot, each as often as it was seen."""


def values_of(commands: Sequence[Command]) -> dict[str, list[str]]:
    """The values of every slot of the commands, in lower case."""
    found: dict[str, list[str]] = {}
    for command in commands:
        for kind, start, end in command.spans:
            found.setdefault(kind, []).append(command.text[start:end].lower())
    return found


def vary(command: Command, values: Values, swap: float, random: Random) -> Command:
    """The command as another person might have typed it, about another thing: `swap` of the slots have another value
    of their type, and the habits of the recordings are broken as `models.intents.utterances.vary` breaks them. A slot's
    value may change its digits and nothing else, and no word is taken out of a slot."""
    numerals = random.random() < 0.3
    parts: list[tuple[str, str]] = []
    for kind, piece in _pieces(command):
        text = piece
        if kind in values and random.random() < swap:
            text = random.choice(values[kind])
        words = [NUMERALS.get(word, word) if numerals else word for word in text.lower().split()]
        parts.append((kind, " ".join(words)))
    if random.random() < 0.5:
        parts = [(kind, text if kind else _called_by_no_name(text)) for kind, text in parts]
    elif random.random() < 0.1:
        parts.insert(0, ("", random.choice(WAKE_WORDS) + random.choice(("", ","))))
    kind, text = parts[-1]
    if random.random() < 0.5:
        if not kind:
            parts[-1] = ("", text.rstrip(".?!, "))
        parts.append(("", random.choice(("", "", "", ".", "?", "!"))))
    varied = _joined(parts, command.intent)
    return varied if varied.text else command


def _pieces(command: Command) -> Iterator[tuple[str, str]]:
    """(type, text) from left to right; no type for what is in no slot."""
    at = 0
    for kind, start, end in command.spans:
        yield "", command.text[at:start]
        yield kind, command.text[start:end]
        at = end
    yield "", command.text[at:]


def _called_by_no_name(text: str) -> str:
    return " ".join(word for word in text.split() if word.strip(",.") not in WAKE_WORDS)


def _joined(parts: Sequence[tuple[str, str]], intent: str) -> Command:
    """The parts with a space between two words; closing punctuation stands right behind its word."""
    text, spans = "", []
    for kind, part in parts:
        if not part:
            continue
        if text and (kind or not part.startswith((",", ".", "?", "!", "'"))):
            text += " "
        if kind:
            spans.append(Span(kind, len(text), len(text) + len(part)))
        text += part
    return Command(text, intent, tuple(spans))


class Batch(NamedTuple):
    """ids and tags [batch, steps], tags NOT_TAGGED behind an item's end; lengths and intents [batch]. What the teacher
    says of both, logits [batch, intents] and [batch, steps, tags]: one zero each without a teacher."""

    ids: NDArray[np.int64]
    lengths: NDArray[np.int64]
    intents: NDArray[np.int64]
    tags: NDArray[np.int64]
    soft_intents: NDArray[np.float32]
    soft_tags: NDArray[np.float32]


class Lessons:
    """The commands of a training part. sizes: padded lengths; swap: see `vary`; teacher: is asked about every sentence
    as it is varied, so that no epoch repeats another."""

    def __init__(
        self,
        commands: Sequence[Command],
        labels: Sequence[str],
        tags: Sequence[str],
        *,
        sizes: Sequence[int],
        swap: float,
        teacher: Teacher | None = None,
    ) -> None:
        self._commands = commands
        self._intents = {label: at for at, label in enumerate(labels)}
        self._tags = tags
        self._values = values_of(commands)
        self._sizes = sizes
        self._swap = swap
        self._teacher = teacher

    def __len__(self) -> int:
        """Sentences in an epoch."""
        return len(self._commands)

    def epoch(self, tokenizer: Tokenizer, batch: int, random: Random) -> Iterator[Batch]:
        """Every command once, varied, in batches of `batch`; the few that fill none are left out."""
        varied = [vary(command, self._values, self._swap, random) for command in self._commands]
        encodings = tokenizer.encode_batch([command.text for command in varied])
        rows = [encoding.ids or [UNKNOWN_ID] for encoding in encodings]
        offsets = [encoding.offsets or [(0, 0)] for encoding in encodings]
        for part in batches(rows, batch, random):
            yield self._batch(
                [varied[at] for at in part], [rows[at] for at in part], [offsets[at] for at in part]
            )

    def _batch(
        self,
        commands: Sequence[Command],
        rows: Sequence[Sequence[int]],
        offsets: Sequence[Sequence[tuple[int, int]]],
    ) -> Batch:
        ids, lengths = pad(rows, self._sizes)
        tags = np.full(ids.shape, NOT_TAGGED, np.int64)
        for at, (command, where) in enumerate(zip(commands, offsets, strict=True)):
            row = to_tags(command.spans, where, self._tags)[: ids.shape[1]]
            tags[at, : len(row)] = row
        intents = np.array([self._intents[command.intent] for command in commands], np.int64)
        if self._teacher is None:
            return Batch(
                ids, lengths, intents, tags, np.zeros((1, 1), np.float32), np.zeros((1, 1, 1), np.float32)
            )
        said = self._teacher.hear([command.text for command in commands], offsets)
        soft = np.zeros((*ids.shape, len(self._tags)), np.float32)
        for at, (_, told) in enumerate(said):
            soft[at, : len(told)] = told[: ids.shape[1]]
        return Batch(ids, lengths, intents, tags, np.stack([told for told, _ in said]), soft)
