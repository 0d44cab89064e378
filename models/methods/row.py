"""A row of the study: what one method made of a model, alone or on top of others, as it was measured.

Milliseconds of one row compare with another's only where both were timed in turns; `note` says against what.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from models.intents import measure

ROUNDS, RUNS = 30, 4
"""Turns that each session takes, and runs that are timed in one: few, or a busy moment hits one session alone."""

VOCABULARY = 500
"""Speed is measured with ids below it: every model of the catalog has more."""


@dataclass(frozen=True)
class Row:
    """What came of `method` at `setting`, on top of the methods in `stacked` (none: alone).

    parameters: weights that training moves, shared ones counted once; None where nobody counted. size_mb: of the file,
    10^6 bytes. p50_ms: median milliseconds of one run, one sentence, one thread. accuracy: 0..1 by set, empty where
    none was measured. nodes: of the graph in the file. Raises ValueError for numbers that cannot have been measured.
    """

    method: str
    setting: str
    stacked: tuple[str, ...]
    parameters: int | None
    size_mb: float
    p50_ms: float
    accuracy: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    nodes: int | None = None

    def __post_init__(self) -> None:
        for what, value in (("size_mb", self.size_mb), ("p50_ms", self.p50_ms)):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"row {self.method!r}: {what} is {value}; it has to be measured, above 0")
        for name, value in self.accuracy.items():
            if not 0 <= value <= 1:
                raise ValueError(
                    f"row {self.method!r}: accuracy on {name!r} is {value}; give a share, 0 to 1"
                )

    def to_json(self) -> dict[str, Any]:
        """The row in types that JSON knows."""
        return asdict(self) | {"stacked": list(self.stacked), "accuracy": dict(self.accuracy)}


def measured(
    path: Path,
    method: str,
    setting: str,
    *,
    parameters: int | None,
    stacked: Sequence[str] = (),
    against: Path | None = None,
    tokens: int = measure.SPEED_TOKENS,
    vocabulary: int = VOCABULARY,
    accuracy: Mapping[str, float] | None = None,
    note: str = "",
) -> Row:
    """The row of the file at `path`: its size and nodes, and its p50 with `tokens` tokens, ids below `vocabulary`.

    against: a file that takes turns with it; the note then says how many times its time this one needs. Raises
    onnxruntime's error where a file cannot be run.
    """
    paths = [path] if against is None else [path, against]
    times = p50s([measure.open_session(one) for one in paths], tokens=tokens, vocabulary=vocabulary)
    notes = [f"{tokens} tokens"]
    if against is not None:
        notes.append(
            f"{times[0] / times[1]:.2f} times the p50 of {against.name}, {times[1]:.3f} ms, in turns"
        )
    return Row(
        method=method,
        setting=setting,
        stacked=tuple(stacked),
        parameters=parameters,
        size_mb=path.stat().st_size / 1e6,
        p50_ms=times[0],
        accuracy=dict(accuracy or {}),
        note="; ".join([*notes, note] if note else notes),
        nodes=len(onnx.load(str(path)).graph.node),
    )


def p50s(
    sessions: Sequence[ort.InferenceSession],
    *,
    tokens: int,
    vocabulary: int,
    rounds: int = ROUNDS,
    runs: int = RUNS,
) -> list[float]:
    """Median milliseconds of one run of each session: one sentence of `tokens` random ids below `vocabulary`.

    The sessions take turns, so that a busy moment of the machine hits all of them.
    """
    ids = np.random.default_rng(0).integers(2, vocabulary, (1, tokens))
    feed = {"ids": ids, "lengths": np.array([tokens], np.int64)}
    taken: list[list[float]] = [[] for _ in sessions]
    for _ in range(rounds):
        for session, times in zip(sessions, taken, strict=True):
            # The head that is served; a card's p50 asks for it alone too.
            wanted = [session.get_outputs()[0].name]
            session.run(wanted, feed)
            for _ in range(runs):
                start = time.perf_counter()
                session.run(wanted, feed)
                times.append((time.perf_counter() - start) * 1e3)
    return [statistics.median(times) for times in taken]
