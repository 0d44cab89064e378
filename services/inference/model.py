"""One ONNX model of the catalog: loaded, verified, warmed up, and run on batches of token ids."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import msgspec
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from services.common.catalog import Card, CatalogError, path_of, read_verified
from services.common.memory import give_back
from services.common.scope import SCORES, Gate
from services.common.slots import NEW_WORD, NOTHING, SAME_WORD
from services.common.tags import marks
from services.contracts.messages import OUT_OF_SCOPE, Alternative, InferOutcome

TAGS = "tags"
"""The output with the scores of the tags, float32 [batch, tokens, tags]."""

EMBEDDING = "embedding"
"""The output of a model that embeds: float32 [batch, features], each of length 1."""

SHARE_S = 0.002
"""Seconds that runs which share a call may take: the first of their items waits for the last."""

BRIEF_S = 0.0003
"""Seconds that waking a thread, and being woken by it, take on a small machine: a model whose largest run takes no
longer is `brief`, and runs where it is asked."""

ORDINARY = 16
"""Tokens of the sentence that tells how long a run takes."""


class Query(NamedTuple):
    """What the model is asked: token ids, how many runners-up to name, outputs that are wanted as they are, and how the
    tokens make words (`services.common.slots`), where slots are wanted."""

    ids: list[int]
    top_k: int
    outputs: tuple[str, ...] = ()
    continues: Sequence[int] | None = None


class Ran(InferOutcome, omit_defaults=True):
    """An outcome in this process: with the rows of the outputs that were wanted, by name."""

    tensors: dict[str, NDArray[np.float32]] | None = None


# Entries that use the same weights share a session; it goes with the last of them.
_sessions: WeakValueDictionary[tuple[str, int], ort.InferenceSession] = WeakValueDictionary()


class _AddedToken(msgspec.Struct):
    id: int


class _Vocabulary(msgspec.Struct):
    vocab: dict[str, int] | list[Any] = {}


class _TokenizerFile(msgspec.Struct):
    model: _Vocabulary
    added_tokens: list[_AddedToken] = []


class Model:
    """A session over `card`'s model; making one takes the load and a warm-up of `max_batch` items, or of fewer where
    the card bounds them. `max_batch` then says how many items one call of `run` may be given at most.

    Raises `CatalogError` when a file is not the one the card describes or does not keep the catalog's
    contract.
    """

    def __init__(self, card: Card, *, max_batch: int, threads: int = 1) -> None:
        self.card = card
        self.vocabulary = _vocabulary_size(card)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        # A spinning thread would burn the quota of a replica that lives on a tenth of a core.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        # A plan of a run's memory is kept for each shape: few where sentences run one by one, too many where they run
        # together, in any number and length.
        options.enable_mem_pattern = card.max_batch == 1
        # An arena keeps what the longest batch took; without one a run takes as long and the memory goes back.
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 3
        content = read_verified(card, "model.onnx")
        path = path_of(card, "model.onnx")
        shared = (card.sha256["model.onnx"].lower(), threads)
        session = _sessions.get(shared)
        if session is None:
            try:
                session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            except Exception as error:  # the binding has no common base class for its errors
                raise CatalogError(f"{path} cannot be loaded by ONNX Runtime: {error}") from error
            _sessions[shared] = session
        self._session = session
        inputs = sorted(value.name for value in self._session.get_inputs())
        outputs = sorted(value.name for value in self._session.get_outputs())
        # Name -> numbers for an item; an output with some for each token has no row of its own in every batch.
        self.outputs = {
            value.name: int(value.shape[1])
            for value in self._session.get_outputs()
            if len(value.shape) == 2 and isinstance(value.shape[1], int)
        }
        if inputs != ["ids", "lengths"] or card.output not in outputs:
            raise CatalogError(
                f"{path} has inputs {inputs} and outputs {outputs}; a catalog model has "
                f"inputs ids, lengths and output {card.output}"
            )
        self.tags = self._tag_names(path)
        self._labels = card.labels
        self._gate = gate(card)
        self._together = min(max_batch, card.max_batch or max_batch)
        self._warm_up(self._together)
        self.max_batch = self._together
        seconds = self._seconds(self._together)
        self.brief = seconds <= BRIEF_S
        if self._together < max_batch:
            # Where few may run together, but a run is short, several runs share what surrounds them.
            self.max_batch = min(max_batch, self._together * max(1, int(SHARE_S / seconds)))
        # What loading needed for a moment, a tenth of the memory of a 23 MB model.
        give_back()

    def close(self) -> None:
        """Free the session; the model runs nothing any more."""
        self.__dict__.pop("_session", None)

    def refuse(self, query: Query) -> str | None:
        """Return why the model cannot answer `query`, or None when it can."""
        ids = query.ids
        if not ids:
            return "ids is empty; a model reads at least one token"
        if len(ids) > self.card.max_tokens:
            return f"ids has {len(ids)} tokens; {self.card.key} reads at most {self.card.max_tokens}"
        if min(ids) < 0 or max(ids) >= self.vocabulary:
            return f"ids holds a token outside 0..{self.vocabulary - 1}, the vocabulary of {self.card.key}"
        return None if query.continues is None else self._refuse_words(query.continues, len(ids))

    def _refuse_words(self, continues: Sequence[int], tokens: int) -> str | None:
        if not self.tags:
            return f"continues asks for slots; {self.card.key} marks none"
        if len(continues) != tokens:
            return f"continues has {len(continues)} members for {tokens} ids; it needs one for each"
        if not {*continues} <= {NOTHING, NEW_WORD, SAME_WORD}:
            return f"continues holds something else than {NOTHING}, {NEW_WORD} and {SAME_WORD}"
        return None

    def run(self, queries: Sequence[Query]) -> list[InferOutcome]:
        """Return an outcome with status 200 per query, in order; one run for as many as the card lets run together."""
        wanted_outputs = {name for query in queries for name in query.outputs}
        if any(query.continues is not None for query in queries):
            wanted_outputs.add(TAGS)
        logits, tensors = self._outputs([query.ids for query in queries], sorted(wanted_outputs))
        wanted = min(logits.shape[1], 1 + max(query.top_k for query in queries))
        best, scores = ranked(logits, wanted)
        outside = None if self._gate is None else self._gate.rejects(logits)
        outcomes: list[InferOutcome] = []
        for row, (query, order, score) in enumerate(zip(queries, best, scores, strict=True)):
            named = [
                Alternative(self._labels[at], value)
                for at, value in zip(order[: query.top_k + 1], score, strict=False)
            ]
            first = named[0]
            if outside is None or not outside[row]:
                outcome = Ran(200, first.intent, first.score, named[1:])
            else:
                outcome = Ran(200, OUT_OF_SCOPE, first.score, named[: query.top_k], in_scope=False)
            if query.continues is not None:
                outcome.marks = marks(tensors[TAGS][row], query.continues, self.tags)
            if query.outputs:
                outcome.tensors = {name: tensors[name][row] for name in query.outputs}
            outcomes.append(outcome)
        return outcomes

    def _logits(self, rows: list[list[int]]) -> NDArray[np.float32]:
        return self._outputs(rows, [])[0]

    def _outputs(
        self, rows: list[list[int]], wanted: Sequence[str]
    ) -> tuple[NDArray[np.float32], dict[str, list[NDArray[np.float32]]]]:
        """The logits [rows, classes], and by name the rows of the wanted outputs."""
        names = [self.card.output, *wanted]
        parts = [
            self._session.run(names, _feed(rows[at : at + self._together]))
            for at in range(0, len(rows), self._together)
        ]
        logits, *others = zip(*parts, strict=True)
        tensors = {
            name: [row for part in several for row in part]
            for name, several in zip(wanted, others, strict=True)
        }
        return logits[0] if len(parts) == 1 else np.concatenate(logits), tensors

    def _tag_names(self, path: Path) -> list[str]:
        """The tags that the card names; none where it names none."""
        told = self.card.facts.get("tags") or []
        shape = next((value.shape for value in self._session.get_outputs() if value.name == TAGS), None)
        if told and (shape is None or len(shape) != 3 or shape[2] != len(told)):
            raise CatalogError(
                f"{path} has {'no output' if shape is None else f'an output of shape {shape} named'} {TAGS}; its card "
                f"names {len(told)} tags, and needs one of [batch, tokens, {len(told)}]"
            )
        return list(told)

    def _seconds(self, batch: int) -> float:
        """What a run of `batch` sentences of ordinary length takes, the best of a few where that decides anything."""
        rows = [[min(1, self.vocabulary - 1)] * min(ORDINARY, self.card.max_tokens)] * batch
        took: list[float] = []
        # Several, for whatever else the machine does now is over before the process is; and few of what takes long.
        while len(took) < 20 and sum(took) < 5 * SHARE_S:
            began = time.perf_counter()
            self._logits(rows)
            took.append(time.perf_counter() - began)
        return min(took)

    def _warm_up(self, max_batch: int) -> None:
        path = path_of(self.card, "model.onnx")
        token = min(1, self.vocabulary - 1)
        for batch, tokens in ((1, 1), (1, self.card.max_tokens), (max_batch, self.card.max_tokens)):
            try:
                logits = self._logits([[token] * tokens] * batch)
            except Exception as error:  # as above
                raise CatalogError(f"{path} cannot run {batch} x {tokens} tokens: {error}") from error
            if logits.shape != (batch, len(self._labels)):
                raise CatalogError(
                    f"{path} returns logits of shape {logits.shape}; "
                    f"its card names {len(self._labels)} labels"
                )


def _feed(rows: Sequence[Sequence[int]]) -> dict[str, NDArray[np.int64]]:
    """The inputs of a run: right-padded ids [batch, tokens], lengths [batch]."""
    lengths = [len(row) for row in rows]
    longest = max(lengths)
    padded = [[*row, *[0] * (longest - len(row))] for row in rows]
    return {"ids": np.array(padded, dtype=np.int64), "lengths": np.array(lengths, dtype=np.int64)}


def gate(card: Card) -> Gate | None:
    """What tells that a text belongs to none of the intents of the card's output: the score that its head names, energy
    where it names none, with that score's threshold; None where the card has none. Raises CatalogError for a score
    that there is not."""
    heads = card.facts.get("heads")
    for head in heads.values() if isinstance(heads, dict) else ():
        if isinstance(head, dict) and head.get("output", "logits") == card.output:
            score = head.get("gate", "energy")
            told = head.get("out_of_scope", {}).get(score, {})
            if "threshold" not in told:
                return None
            if score not in SCORES:
                raise CatalogError(f"{card.key} has the gate {score!r}; there are {', '.join(SCORES)}")
            return Gate(score, float(told["threshold"]))
    return None


def ranked(logits: NDArray[np.float32], count: int) -> tuple[list[list[int]], list[list[float]]]:
    """For each row of `logits` [batch, classes]: its `count` likeliest classes, likeliest first, and how likely they
    are, to six digits."""
    # A run leaves the caches to the model's weights, and each call of NumPy then costs three times what it does in a
    # loop of its own: so they are few, and only what is told is divided.
    best = logits.argsort(axis=1)[:, : -count - 1 : -1]
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float64)
    scores = shifted[np.arange(len(logits))[:, None], best] / shifted.sum(axis=1, keepdims=True)
    return best.tolist(), scores.round(6).tolist()


def _vocabulary_size(card: Card) -> int:
    """Return one more than the largest token id of the entry's tokenizer."""
    path = path_of(card, "tokenizer.json")
    try:
        content = msgspec.json.decode(read_verified(card, "tokenizer.json"), type=_TokenizerFile)
    except ValueError as error:
        raise CatalogError(f"{path} is not a tokenizer: {error}") from error
    vocab = content.model.vocab
    ids = [len(vocab) - 1] if isinstance(vocab, list) else list(vocab.values())
    ids += [token.id for token in content.added_tokens]
    if not ids or max(ids) < 0:
        raise CatalogError(f"{path} has an empty vocabulary")
    return max(ids) + 1
