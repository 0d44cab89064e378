"""Commands whose slots are marked, `turn on the [device_type : light]`: reading them, tags for training, and scores.

A slot is a span of characters of the plain text; a network tags tokens. The two are brought together by the tokens'
offsets, which count characters of the text as it was given, whatever the tokenizer's normaliser does to it.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from models.intents.utterances import Utterance, read_utterances

OUTSIDE = "O"
NOT_TAGGED = -1
"""Target of a token that covers no character, such as [CLS]: nothing is learnt from it."""


class Span(NamedTuple):
    """A slot: its type, and the characters start..end (end not included) of the text that hold its value."""

    type: str
    start: int
    end: int


@dataclass(frozen=True)
class Command(Utterance):
    """One sentence, its intent and its slots from left to right."""

    spans: tuple[Span, ...] = ()


def parse(annotated: str) -> tuple[str, tuple[Span, ...]]:
    """The plain text and its slots. Raises ValueError for a bracket that is not closed, not opened or nested, and for
    a slot without type or value."""
    plain, spans, at = "", [], 0
    while (opened := annotated.find("[", at)) >= 0:
        plain += _unbracketed(annotated[at:opened])
        closed, nested = annotated.find("]", opened), annotated.find("[", opened + 1)
        shown = annotated[opened : opened + 40]
        if closed < 0:
            raise ValueError(f"the bracket of {shown!r} is not closed; write [type : value]")
        if 0 <= nested < closed:
            raise ValueError(f"{shown!r} has a slot within a slot; keep one of them")
        kind, colon, value = annotated[opened + 1 : closed].partition(":")
        kind, value = kind.strip(), value.strip()
        if not (colon and kind and value):
            raise ValueError(
                f"{annotated[opened : closed + 1]!r} lacks a type or a value; write [type : value]"
            )
        spans.append(Span(kind, len(plain), len(plain) + len(value)))
        plain, at = plain + value, closed + 1
    return plain + _unbracketed(annotated[at:]), tuple(spans)


def _unbracketed(text: str) -> str:
    if "]" in text:
        raise ValueError(f"{text!r} closes a bracket that was not opened; write [type : value]")
    return text


def read_commands(path: Path) -> list[Command]:
    """Read a TSV file whose header names the columns `text`, `intent` and `annotated`, the text with its slots marked.

    Raises OSError when it cannot be read, or ValueError naming the file and the line that is wrong.
    """
    items = read_utterances(path)
    opened = io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")
    rows = csv.DictReader(opened, delimiter="\t", quoting=csv.QUOTE_NONE)
    if "annotated" not in (rows.fieldnames or ()):
        raise ValueError(
            f"{path}:1: the header lacks the column 'annotated', the text with its slots marked: [type : value]"
        )
    found = []
    for item, row in zip(items, rows, strict=True):
        try:
            plain, spans = parse(row["annotated"])
        except ValueError as error:
            raise ValueError(f"{path}:{rows.line_num}: {error}") from None
        if plain != item.text:
            raise ValueError(
                f"{path}:{rows.line_num}: without its brackets the annotated text is {plain!r}, but the text is "
                f"{item.text!r}; make them equal"
            )
        found.append(Command(item.text, item.intent, spans))
    return found


def tag_names(types: Iterable[str]) -> list[str]:
    """O, then B-type and I-type for each type in the order of the alphabet."""
    return [OUTSIDE, *(f"{place}-{kind}" for kind in sorted(set(types)) for place in "BI")]


def to_tags(spans: Sequence[Span], offsets: Sequence[tuple[int, int]], tags: Sequence[str]) -> list[int]:
    """The tag of each token as its number in `tags`; NOT_TAGGED where a token covers no character.

    offsets: (start, end) of each token in the text. A token that touches a span belongs to it; the span's first token
    begins it. Raises ValueError for a type that `tags` does not have.
    """
    number = {tag: at for at, tag in enumerate(tags)}
    if strange := [span.type for span in spans if f"B-{span.type}" not in number]:
        raise ValueError(f"slot type {strange[0]!r} is none that training saw")
    begun: set[Span] = set()
    found = []
    for start, end in offsets:
        if start == end:
            found.append(NOT_TAGGED)
            continue
        span = next((span for span in spans if span.start < end and start < span.end), None)
        if span is None:
            found.append(number[OUTSIDE])
            continue
        found.append(number[f"{'I' if span in begun else 'B'}-{span.type}"])
        begun.add(span)
    return found


class EntityScore(NamedTuple):
    """How many slots were found right, found at all and wanted, over all sentences."""

    right: int
    found: int
    wanted: int

    @property
    def precision(self) -> float:
        """Share (0..1) of what was found that is right; 0 where nothing was."""
        return self.right / self.found if self.found else 0.0

    @property
    def recall(self) -> float:
        """Share (0..1) of what was wanted that was found; 0 where nothing was wanted."""
        return self.right / self.wanted if self.wanted else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of both, 0..1."""
        return 2 * self.right / (self.found + self.wanted) if self.found + self.wanted else 0.0


def score(wanted: Sequence[Sequence[Span]], found: Sequence[Sequence[Span]]) -> EntityScore:
    """Micro-averaged over the sentences: a slot is right when its type and both ends are exact (CoNLL 2000's rule,
    as seqeval counts it)."""
    by_type = score_by_type(wanted, found).values()
    return EntityScore(*(sum(one[at] for one in by_type) for at in range(3)))


def score_by_type(
    wanted: Sequence[Sequence[Span]], found: Sequence[Sequence[Span]]
) -> dict[str, EntityScore]:
    """The same for each type that is wanted or found anywhere."""
    right, given, asked = Counter[str](), Counter[str](), Counter[str]()
    for one, other in zip(wanted, found, strict=True):
        right.update(span.type for span in set(one) & set(other))
        given.update(span.type for span in set(other))
        asked.update(span.type for span in set(one))
    return {kind: EntityScore(right[kind], given[kind], asked[kind]) for kind in sorted(given | asked)}
