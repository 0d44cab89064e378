"""A larger command parser of the catalog as a teacher: what it says of intent and tags, token by token of its pupil.

Teacher and pupil may cut words differently; a pupil's token hears what the teacher says of the character that it starts
with. Nothing but ONNX Runtime is needed to hear a teacher.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.entries import Entry, resolve, verify
from models.intents import measure
from models.lessons import UNKNOWN_ID

Floats = NDArray[np.float32]

LEAST = 1e-6
"""Probability of what a teacher rules out: its logarithm must be a number."""


class Teacher:
    """A catalog entry that answers sentences with the logits of both heads."""

    def __init__(self, entry: Entry, labels: Sequence[str], tags: Sequence[str]) -> None:
        """Raises EntryError when a file is not what the card says, ValueError when the entry is no command parser for
        these labels and tags."""
        card = entry.card
        if card.get("labels") != list(labels) or card.get("tags") != list(tags):
            raise ValueError(
                f"{entry.folder / 'card.json'} does not name the intents and slot types of the data, so it can teach "
                "nothing of them; name an entry that was trained on them, or none"
            )
        artefact = resolve(entry)
        verify(artefact)
        self.digest = artefact.sha256[artefact.model][:16]
        self.name = f"{entry.model}/{entry.tier}"
        self._tags = tags
        self._longest = artefact.max_tokens
        self._tokenizer = Tokenizer.from_file(str(artefact.tokenizer))
        self._session = measure.open_session(artefact.model)

    def hear(
        self, texts: Sequence[str], offsets: Sequence[Sequence[tuple[int, int]]]
    ) -> list[tuple[Floats, Floats]]:
        """For each text, alone: logits [intents], and logits [tokens, tags] for the pupil's tokens, which are at
        `offsets`."""
        said = []
        for text, wanted in zip(texts, offsets, strict=True):
            encoding = self._tokenizer.encode(text)
            ids = encoding.ids[: self._longest] or [UNKNOWN_ID]
            feed = {"ids": np.array([ids], np.int64), "lengths": np.array([len(ids)], np.int64)}
            intents, tags = self._session.run(["logits", "tags"], feed)
            said.append((intents[0], carried_over(tags[0], encoding.offsets[: len(ids)], wanted, self._tags)))
        return said


def carried_over(
    scores: Floats, own: Sequence[tuple[int, int]], wanted: Sequence[tuple[int, int]], tags: Sequence[str]
) -> Floats:
    """Scores [tokens at `own`, tags] as those of the tokens at `wanted`: logarithms of probabilities [wanted, tags].

    A token that starts within one of the teacher's cannot begin what that one begins: what is said for B- goes to I-.
    Zeros, which say nothing, for a token that covers no character, or one that the teacher did not read.
    """
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    inside = [at for at, tag in enumerate(tags) if tag.startswith("I-")]
    begin = [list(tags).index(f"B-{tags[at][2:]}") for at in inside]
    found = np.zeros((len(wanted), len(tags)), np.float32)
    for row, (first, last) in enumerate(wanted):
        covering = (at for at, (start, end) in enumerate(own) if start <= first < end)
        at = next(covering, None)
        if first == last or at is None:
            continue
        share = shares[at].copy()
        if own[at][0] < first:
            share[inside] += share[begin]
            share[begin] = 0.0
        found[row] = np.log(np.maximum(share, LEAST))
    return found
