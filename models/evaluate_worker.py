"""The process in which `models.evaluate` measures one model: `python -m models.evaluate_worker MODEL OUTPUT LONGEST`.

It holds what a replica that serves this model holds, NumPy, ONNX Runtime and the model, and nothing else, so that its
memory is that of serving. Each line of stdin is a JSON list of sentences, each a list of token ids; it is answered by
one line {"answers": [index of the largest logit, ...], "ms": [milliseconds of session.run, ...]}. The first line says
{"classes": width of the logits}, when the model is loaded and warm. What is wrong goes to stderr, with exit code 1.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort

from services.common.memory import forget_start, give_back

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNKNOWN = 1
"""The token that warms up: every tokenizer of the catalog has it."""


class Model:
    """A session on one thread, opened with the options that inference serves with.

    path: the ONNX file; output: name of the output that holds the logits, float32 [batch, classes]. Raises ValueError
    when its inputs or outputs are others than a catalog entry has, and whatever ONNX Runtime raises.
    """

    def __init__(self, path: Path, output: str) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        options.enable_mem_pattern = False
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 3
        # By its path: bytes would be held beside what is made of them, a fifth of the memory of a 23 MB model.
        self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._output = output
        inputs = sorted(value.name for value in self._session.get_inputs())
        outputs = sorted(value.name for value in self._session.get_outputs())
        if inputs != ["ids", "lengths"] or output not in outputs:
            raise ValueError(
                f"has inputs {inputs} and outputs {outputs}; its card needs inputs ids, lengths and output {output}"
            )

    def run(self, row: Sequence[int]) -> tuple[NDArray[np.float32], float]:
        """Return the logits [1, classes] of one sentence's ids, and the milliseconds that `session.run` took."""
        feed = {"ids": np.array([row], np.int64), "lengths": np.array([len(row)], np.int64)}
        start = time.perf_counter()
        logits: NDArray[np.float32] = self._session.run([self._output], feed)[0]
        return logits, (time.perf_counter() - start) * 1e3


def say(message: object) -> None:
    """Write one line of JSON."""
    print(json.dumps(message), flush=True)


def main(path: Path, output: str, longest: int) -> None:
    """Load, warm up with the shortest sentence and one of `longest` tokens, then answer until stdin ends."""
    model = Model(path, output)
    model.run([UNKNOWN])
    logits, _ = model.run([UNKNOWN] * longest)
    if logits.ndim != 2 or len(logits) != 1:
        raise ValueError(f"answers one sentence with {output} of shape {logits.shape}, not [1, classes]")
    # As inference does: what only loading needed goes back to the system.
    give_back()
    forget_start()
    say({"classes": logits.shape[1]})
    for line in sys.stdin:
        rows = json.loads(line)
        # Between two lines the process slept and its caches went cold, which no sentence shall pay for.
        model.run(rows[0])
        runs = [model.run(row) for row in rows]
        say({"answers": [int(logits[0].argmax()) for logits, _ in runs], "ms": [ms for _, ms in runs]})


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # ONNX Runtime has no common base class for its errors
        sys.exit(str(error).strip() or repr(error))
