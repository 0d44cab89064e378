"""Measuring a file for a row of the study."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from models.intents import measure
from models.methods.row import Row

ROUNDS, RUNS = 30, 4
"""Turns that each session takes, and runs that are timed in one: few, or a busy moment hits one session alone."""

VOCABULARY = 500
"""Speed is measured with ids below it: every model of the catalog has more."""


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
