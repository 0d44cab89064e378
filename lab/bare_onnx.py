"""A model without a server: what ONNX Runtime alone does on one thread, measured in a process of its own.

`python -m lab.bare_onnx MODEL.onnx TOKENIZER.json MAX_BATCH [OUTPUT]` reads orders from stdin, one JSON document a
line (``together``: sentences under way at once, ``seconds``, ``warmup_s``), and answers each with a `Load`. At most
MAX_BATCH sentences (0: any number) and never more than 32 run together. OUTPUT is the one that is asked for, as a
server does. Texts are tokenised and padded beforehand: the time is the runs' alone. It ends when its stdin does.
"""

from __future__ import annotations

import itertools
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import numpy as np

from lab.closed_loop import Load, LoadFailed
from lab.rivals.model import Feed, feed, ids, session, together, tokenizer
from lab.utterances import read_utterances

_MAX_TOKENS = 512  # no utterance is as long
_ROOT = Path(__file__).resolve().parent.parent
_GRACE_S = 30.0  # loading the model, one run


class Order(msgspec.Struct, frozen=True):
    """What is to be measured."""

    together: int
    seconds: float
    warmup_s: float = 0.0


class BareOnnx:
    """The process seen from outside; a `Run`, where connections are sentences that run together.

    ``before``: words put before the command, such as those that end it with this process.
    """

    def __init__(
        self, folder: Path, max_batch: int, *, output: str = "logits", before: Sequence[str] = ()
    ) -> None:
        self._name = f"bare ONNX Runtime on {folder}"
        self._process = subprocess.Popen(
            [
                *before, sys.executable, "-m", "lab.bare_onnx",
                str(folder / "model.onnx"), str(folder / "tokenizer.json"), str(max_batch), output,
            ],
            cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def __call__(self, *, connections: int, seconds: float, warmup_s: float) -> Load:
        """Blocks for warm-up and measurement. Raises LoadFailed when the process ended or doesn't answer."""
        asked, answered = self._process.stdin, self._process.stdout
        assert asked is not None and answered is not None  # noqa: S101 (both are pipes)
        order = msgspec.json.encode(Order(connections, seconds, warmup_s)).decode()
        try:
            asked.write(order + "\n")
            asked.flush()
            there, _, _ = select.select([answered], [], [], seconds + warmup_s + _GRACE_S)
            return msgspec.json.decode(answered.readline() if there else "", type=Load)
        except (OSError, msgspec.DecodeError):
            raise LoadFailed(f"{self._name} gave no answer; exit status {self._process.poll()}") from None

    def __enter__(self) -> BareOnnx:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()


def measure(running: Any, output: str, feeds: Sequence[Feed], order: Order) -> Load:
    """Runs the feeds over and over for the order's time; the percentiles are of one run."""
    cycled = itertools.cycle(feeds)
    warm_until = time.perf_counter() + order.warmup_s
    while time.perf_counter() < warm_until:
        running.run([output], next(cycled))
    took: list[float] = []
    items = 0
    began = now = time.perf_counter()
    until = began + order.seconds
    while now < until:
        fed = next(cycled)
        running.run([output], fed)
        after = time.perf_counter()
        took.append(after - now)
        items += len(fed["lengths"])
        now = after
    half, late = (float(at) * 1e3 for at in np.percentile(took, [50, 99]))
    return Load(items, items, 0, items / (now - began), half, late, now - began)


def feeds_of(rows: Sequence[list[int]], size: int) -> list[Feed]:
    """As many batches as there are rows, each of ``size`` rows, so that every row is in equally many."""
    endless = itertools.cycle(rows)
    return [feed(list(itertools.islice(endless, size))) for _ in rows]


def main() -> None:
    """Answers orders until stdin ends."""
    model, vocabulary, max_batch = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    output = sys.argv[4] if len(sys.argv) > 4 else "logits"
    rows = ids(tokenizer(vocabulary, _MAX_TOKENS), [said.text for said in read_utterances()])
    running = session(model)
    for line in sys.stdin:
        order = msgspec.json.decode(line, type=Order)
        size = min(order.together, together(max_batch))
        load = measure(running, output, feeds_of(rows, size), order)
        print(msgspec.json.encode(load).decode(), flush=True)


if __name__ == "__main__":
    main()
