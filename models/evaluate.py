"""Measuring a catalog entry on sentences of one's own: `foremesh models eval`.

Nothing here needs what training needs. A model runs in a process of its own (`models.evaluate_worker`) on one thread of
ONNX Runtime, each sentence alone, so that its memory and its time are those of serving it and nothing else.
"""

import contextlib
import dataclasses
import json
import math
import operator
import os
import select
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from models.entries import Artefact, Entry, EntryError, resolve, verify
from models.intents.utterances import Utterance

REPO = Path(__file__).resolve().parents[1]
CHUNK = 64
"""Sentences that a model answers before FP32, if it is there, has its turn: a drift of the machine meets both."""

LEAST_TIMINGS = 500
"""A short file is run again until so many runs are timed: the 99th percentile of 80 would be the slowest of them."""

ANSWER_WITHIN_S = 300.0
"""Seconds for loading a model, or for answering CHUNK sentences; after that it is taken to hang."""

NAMED = 6
"""Unknown labels that an error spells out; the others are counted."""


@dataclass(frozen=True)
class Measured:
    """What an entry did on a file of sentences, on this machine.

    accuracy, macro_f1: 0..1; the F1 is averaged over every intent that occurs, expected or answered. p50_ms, p99_ms:
    milliseconds of `session.run` for one sentence on one thread, tokenisation not included. rss_mb: resident memory of
    the process that serves the model alone, after the run, in 10^6 bytes; loaded_rss_mb before it, peak_rss_mb at most.
    size_mb: model and tokenizer on disk, 10^6 bytes. fp32_*: of the FP32 model in the same run, None without one.
    sentences: how many; cut: those longer than max_tokens; unknown: those whose label the model does not know.
    """

    model: str
    tier: str
    accuracy: float
    macro_f1: float
    p50_ms: float
    p99_ms: float
    rss_mb: float
    loaded_rss_mb: float
    peak_rss_mb: float
    size_mb: float
    fp32_accuracy: float | None
    fp32_p50_ms: float | None
    sentences: int
    cut: int
    unknown: int


def encode(artefact: Artefact, texts: Sequence[str]) -> tuple[list[list[int]], int]:
    """Token ids of each text as the tokenization service gives them, and how many texts were cut at max_tokens.

    Raises EntryError when the tokenizer is not one.
    """
    # One thread: a pool of the library's own would take the cores that the models are timed on.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from tokenizers import Tokenizer  # noqa: PLC0415 (slow to import, and only this needs it)

    try:
        tokenizer = Tokenizer.from_file(str(artefact.tokenizer))
    except Exception as error:  # the binding raises bare Exception
        raise EntryError(f"{artefact.tokenizer} is not a tokenizer: {error}") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(artefact.max_tokens)
    # A model reads at least one token: text that leaves none, such as a lone NUL, is one unknown token.
    nothing = [tokenizer.token_to_id("[UNK]") or 0]
    encodings = tokenizer.encode_batch_fast(list(texts))
    return [list(e.ids) or nothing for e in encodings], sum(1 for e in encodings if e.overflowing)


def unknown_labels(entry: Entry, items: Sequence[Utterance]) -> Counter[str]:
    """How many sentences carry each label that the entry's model cannot answer; empty when it knows all of them."""
    known = set(resolve(entry).labels)
    return Counter(item.intent for item in items if item.intent not in known)


def named(labels: Counter[str]) -> str:
    """Labels with their counts for a message, the most frequent first, and no more than a line of them."""
    said = [f"{label!r} ({count})" for label, count in labels.most_common(NAMED)]
    more = len(labels) - len(said)
    return ", ".join(said) + (f" and {more} more" if more else "")


def macro_f1(expected: Sequence[str], answered: Sequence[str]) -> float:
    """Mean of the F1 of every intent that is expected or answered anywhere, each counting the same: 0..1."""
    wanted, given = Counter(expected), Counter(answered)
    right = Counter(one for one, other in zip(expected, answered, strict=True) if one == other)
    # 2 TP / (2 TP + FP + FN): what is wanted is TP + FN, what is given TP + FP.
    return statistics.fmean(2 * right[i] / (wanted[i] + given[i]) for i in wanted.keys() | given.keys())


def evaluate(
    entry: Entry, items: Sequence[Utterance], report: Callable[[int, int], None] = lambda done, total: None
) -> Measured:
    """Verify the files of an entry, run its model on `items`, each alone, and say how it did.

    report: called with sentences done and to do, as the run goes on. A sentence whose label the model does not know
    is wrong. Raises EntryError when a file is not what its card says, or does not run.
    """
    artefact = resolve(entry)
    verify(artefact)
    rows, cut = encode(artefact, [item.text for item in items])
    rounds = math.ceil(LEAST_TIMINGS / len(rows))
    with contextlib.ExitStack() as stack:
        served = stack.enter_context(serving(artefact.model, artefact))
        loaded_mb = served.memory_mb("VmRSS")
        models = [served]
        if artefact.fp32:
            models.append(stack.enter_context(serving(artefact.fp32, artefact)))
        for done in range(rounds):
            for start in range(0, len(rows), CHUNK):
                for model in models:
                    model.answer(rows[start : start + CHUNK])
                report(done * len(rows) + min(start + CHUNK, len(rows)), rounds * len(rows))
        rss_mb, peak_mb = served.memory_mb("VmRSS"), served.memory_mb("VmHWM")
    expected = [item.intent for item in items]
    answers = [[artefact.labels[at] for at in model.answers[: len(rows)]] for model in models]
    accuracies = [sum(map(operator.eq, expected, given)) / len(items) for given in answers]
    medians = [statistics.median(model.ms) for model in models]
    return Measured(
        model=entry.model,
        tier=entry.tier,
        accuracy=round(accuracies[0], 4),
        macro_f1=round(macro_f1(expected, answers[0]), 4),
        p50_ms=round(medians[0], 4),
        p99_ms=round(statistics.quantiles(served.ms, n=100, method="inclusive")[98], 4),
        rss_mb=round(rss_mb, 1),
        loaded_rss_mb=round(loaded_mb, 1),
        peak_rss_mb=round(peak_mb, 1),
        size_mb=round(sum(path.stat().st_size for path in (artefact.model, artefact.tokenizer)) / 1e6, 3),
        fp32_accuracy=round(accuracies[1], 4) if artefact.fp32 else None,
        fp32_p50_ms=round(medians[1], 4) if artefact.fp32 else None,
        sentences=len(items),
        cut=cut,
        unknown=unknown_labels(entry, items).total(),
    )


class Served:
    """A model in a process of its own, with every answer (index of a label) and time (milliseconds) it gave."""

    def __init__(self, model: Path, labels: int, process: subprocess.Popen[str], stderr: IO[bytes]) -> None:
        self.answers: list[int] = []
        self.ms: list[float] = []
        self._model, self._process, self._stderr = model, process, stderr
        self._stdin, self._stdout = cast(IO[str], process.stdin), cast(IO[str], process.stdout)
        classes = self._read()["classes"]
        if classes != labels:
            raise EntryError(
                f"{model} tells {classes} classes apart, its card names {labels} labels; export the model again"
            )

    def answer(self, rows: Sequence[Sequence[int]]) -> None:
        """Answer sentences of token ids one by one. Raises EntryError when the model fails on them."""
        # A process that is gone says on stderr why; that is read below.
        with contextlib.suppress(BrokenPipeError):
            self._stdin.write(json.dumps(rows) + "\n")
            self._stdin.flush()
        said = self._read()
        self.answers += said["answers"]
        self.ms += said["ms"]

    def memory_mb(self, field: str) -> float:
        """VmRSS (resident now) or VmHWM (at most so far) of the process, in 10^6 bytes; see proc(5)."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition(f"{field}:")[2].split()[0]) * 1024 / 1e6

    def _read(self) -> Any:
        if not select.select([self._stdout], [], [], ANSWER_WITHIN_S)[0]:
            raise EntryError(f"{self._model} did not answer within {ANSWER_WITHIN_S:.0f} s")
        if line := self._stdout.readline():
            return json.loads(line)
        code = self._process.wait(ANSWER_WITHIN_S)
        self._stderr.seek(0)
        said = self._stderr.read().decode(errors="replace").strip().splitlines()
        raise EntryError(
            f"{self._model} cannot be run: {said[-1] if said else f'its process ended with {code}'}"
        )


@contextlib.contextmanager
def serving(model: Path, artefact: Artefact) -> Iterator[Served]:
    """A process that has loaded `model` and answers; it ends with the block. Raises EntryError when it cannot load."""
    command = [sys.executable, "-m", "models.evaluate_worker"]
    # As the mesh starts its services.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    with (
        tempfile.TemporaryFile() as stderr,
        subprocess.Popen(
            [*command, str(model.resolve()), artefact.output, str(artefact.max_tokens)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, cwd=REPO, env=environment, text=True,
        ) as process,
    ):  # fmt: skip
        try:
            yield Served(model, len(artefact.labels), process, stderr)
        finally:
            process.kill()
            # What a process that is gone did not read is still in the buffer.
            with contextlib.suppress(BrokenPipeError):
                cast(IO[str], process.stdin).close()


def write_json(result: Measured, path: Path) -> None:
    """Write a result so that readers see all of it or what was there before. Raises OSError."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        unfinished.write_text(json.dumps(dataclasses.asdict(result), indent=2) + "\n")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
