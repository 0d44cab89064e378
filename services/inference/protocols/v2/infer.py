"""Tensors to tensors: what a call for inference of the Open Inference Protocol, version 2, is, whatever carries it.

A model takes the tensors `ids` INT64 [batch, tokens] and `lengths` INT64 [batch], or `text` BYTES [batch]; it gives
`logits` FP32 [batch, classes], what else its file gives, with a row for each item, and `intent` BYTES and `score`
FP32, both [batch]. Rows of a request run with those of others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.common.problems import Problem
from services.inference.model import Query, Ran
from services.inference.outcomes import problem_of
from services.inference.protocols.v2.models import key
from services.inference.protocols.v2.tensors import Head, bad
from services.inference.texts import TextHeld, Texts

MADE = ("intent", "score")
"""Outputs that are made of the logits here; the others are the file's own."""


class Output(NamedTuple):
    """An output and its elements."""

    head: Head
    values: NDArray[Any]


class Answer(NamedTuple):
    """The outputs in the order in which they were asked for, and the version of the model that gave them."""

    version: str
    outputs: list[Output]


async def infer(
    texts: Texts,
    name: str,
    version: str | None,
    tensors: Mapping[str, NDArray[Any]],
    outputs: Sequence[str],
    deadline_s: float | None = None,
) -> Answer:
    """Ask the model that is named so.

    outputs: names of those that are wanted; without any, all that the file has. deadline_s: time that the caller
    leaves, where it does. Raises the 404 `Problem` of a model that is not there, the 400 that says what is wrong with
    the tensors, and the problem of the first item that got no answer.
    """
    held = await texts.take(key(texts, name, version))
    try:
        wanted = _wanted(held, outputs)
        rows = await _rows(texts, held, tensors)
        raw = tuple(output for output in wanted if output not in MADE)
        outcomes = await texts.run(held, [Query(row, 1, raw) for row in rows], deadline_s)
    finally:
        texts.repository.leave(held)
    ran = []
    for at, outcome in enumerate(outcomes):
        if not isinstance(outcome, Ran):
            problem = problem_of(outcome)
            problem.detail = f"item {at}: {problem.detail}"
            raise problem
        ran.append(outcome)
    return Answer(held.card.version, [_output(output, ran) for output in wanted])


async def _rows(texts: Texts, held: TextHeld, tensors: Mapping[str, NDArray[Any]]) -> list[list[int]]:
    """Token ids of each item."""
    names = set(tensors)
    if names == {"text"}:
        given = tensors["text"].reshape(-1)
        if given.dtype != object:
            raise bad("text", "must be BYTES")
        _few(len(given), texts.max_items)
        return await texts.encode(held, [str(text) for text in given])
    if names != {"ids", "lengths"}:
        told = ", ".join(sorted(name[:64] for name in names)[:8]) or "none"
        raise bad("inputs", f"are {told}; give ids and lengths, or text")
    rows, lengths = tensors["ids"], tensors["lengths"].reshape(-1)
    if rows.dtype.kind != "i" or lengths.dtype.kind != "i":
        raise bad("ids", "and lengths must be INT64 or INT32")
    if rows.ndim != 2 or len(lengths) != len(rows):
        shapes = f"{list(rows.shape)} and lengths of {list(tensors['lengths'].shape)}"
        raise bad("ids", f"is of shape {shapes}; they must be [batch, tokens] and [batch]")
    _few(len(rows), texts.max_items)
    if len(rows) and (lengths.min() < 0 or lengths.max() > rows.shape[1]):
        raise bad("lengths", f"must lie between 0 and the {rows.shape[1]} tokens of ids")
    return [row[:length].tolist() for row, length in zip(rows, lengths.tolist(), strict=True)]


def _few(count: int, most: int) -> None:
    if not 1 <= count <= most:
        raise bad("inputs", f"hold {count} items; 1 to {most} are taken in one call")


def _wanted(held: TextHeld, named: Sequence[str]) -> list[str]:
    known = [*held.model.outputs, *MADE]
    for name in named:
        if name not in known:
            raise Problem(
                400, "no-such-output", "No such output",
                f"{held.card.key} has no output {name[:64]!r}; it has {', '.join(known)}", known=known,
            )  # fmt: skip
    return list(named) or list(held.model.outputs)


def _output(name: str, ran: Sequence[Ran]) -> Output:
    if name == "intent":
        values, datatype = np.array([outcome.intent for outcome in ran], dtype=object), "BYTES"
    elif name == "score":
        values, datatype = np.array([outcome.score for outcome in ran], np.float32), "FP32"
    else:
        values, datatype = np.stack([(outcome.tensors or {})[name] for outcome in ran]), "FP32"
    return Output(Head(name, datatype, list(values.shape)), values)
