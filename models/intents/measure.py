"""Measuring an exported model in ONNX Runtime, the way it will be served: accuracy, speed, independence."""

import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.intents.utterances import Utterance
from models.intents.vocabulary import PAD_ID

SPEED_TOKENS = 11
"""Tokens per item when speed is measured: an ordinary spoken request."""

SPEED_BATCHES = (1, 8, 32)


def open_session(path: Path) -> ort.InferenceSession:
    """Open a model on one thread of the CPU, as a replica with a quota of one core does."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    # Warnings about initialisers that an optimisation made superfluous are of no use to anybody.
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(session: ort.InferenceSession, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    """Logits [batch, classes] of token ids of any lengths, padded to the longest of them."""
    lengths = np.array([len(row) for row in rows], np.int64)
    ids = np.full((len(rows), max(1, lengths.max())), PAD_ID, np.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
    answers: NDArray[np.float32] = session.run(["logits"], {"ids": ids, "lengths": lengths})[0]
    return answers


def encode(tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
    """Token ids of each text, cut to `max_tokens`."""
    return [list(encoding.ids[:max_tokens]) for encoding in tokenizer.encode_batch(list(texts))]


@dataclass(frozen=True)
class Outcome:
    """How a model did on a set: accuracy and, per true intent, recall (0..1) and most frequent mistake."""

    accuracy: float
    recall: dict[str, float]
    mistaken_for: dict[str, str]


def evaluate(
    session: ort.InferenceSession,
    rows: Sequence[Sequence[int]],
    items: Sequence[Utterance],
    labels: Sequence[str],
) -> Outcome:
    """Answer every row alone, as a request that meets no other, and compare with the items' intents."""
    answers = [labels[int(run(session, [row])[0].argmax())] for row in rows]
    total, right, mistakes = Counter[str](), Counter[str](), dict[str, Counter[str]]()
    for answer, item in zip(answers, items, strict=True):
        total[item.intent] += 1
        if answer == item.intent:
            right[item.intent] += 1
        else:
            mistakes.setdefault(item.intent, Counter())[answer] += 1
    return Outcome(
        accuracy=right.total() / len(items),
        recall={intent: right[intent] / count for intent, count in sorted(total.items())},
        mistaken_for={intent: found.most_common(1)[0][0] for intent, found in sorted(mistakes.items())},
    )


@dataclass(frozen=True)
class Leak:
    """What neighbours in a batch change in an item's answer: largest logit difference, labels flipped."""

    logits: float
    flipped: int


def leak(session: ort.InferenceSession, rows: Sequence[Sequence[int]], batch: int = 32) -> Leak:
    """Compare each row answered alone with the same row among `batch` others, shorter and longer ones."""
    largest, flipped = 0.0, 0
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        together = run(session, part)
        alone = np.concatenate([run(session, [row]) for row in part])
        largest = max(largest, float(np.abs(together - alone).max()))
        flipped += int((together.argmax(axis=1) != alone.argmax(axis=1)).sum())
    return Leak(largest, flipped)


def speeds(
    sessions: Sequence[ort.InferenceSession], tokens: int, rounds: int = 12, runs: int = 60
) -> list[dict[int, float]]:
    """Median milliseconds of one run per session and batch size, at SPEED_TOKENS tokens and one thread.

    tokens: size of the vocabulary to draw ids from. The sessions take turns, so that a busy moment of the
    machine hits all of them: compare the results with each other rather than with another day's.
    """
    ids = np.random.default_rng(0).integers(2, tokens, (max(SPEED_BATCHES), SPEED_TOKENS))
    taken: list[dict[int, list[float]]] = [{batch: [] for batch in SPEED_BATCHES} for _ in sessions]
    for _ in range(rounds):
        for batch in SPEED_BATCHES:
            feed = {"ids": ids[:batch], "lengths": np.full(batch, SPEED_TOKENS, np.int64)}
            for session, times in zip(sessions, taken, strict=True):
                session.run(["logits"], feed)
                for _ in range(runs):
                    start = time.perf_counter()
                    session.run(["logits"], feed)
                    times[batch].append((time.perf_counter() - start) * 1e3)
    return [{batch: statistics.median(values) for batch, values in times.items()} for times in taken]
