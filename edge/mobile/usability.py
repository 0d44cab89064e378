"""What ONNX Runtime's own checker says of a graph on phones: its report, and the same as numbers."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

CHECKER = "onnxruntime.tools.check_onnx_model_mobile_usability"

TIMEOUT_S = 300
"""A graph of a few hundred nodes takes seconds."""


def check(model: Path) -> str:
    """The checker's report on `model`, run in a process of its own because it logs to the root logger.

    Raises ValueError with the end of what it printed when it fails.
    """
    # The name alone: a report that names a path of this machine would differ between machines.
    done = subprocess.run(
        [sys.executable, "-m", CHECKER, model.name],
        cwd=model.parent,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    report = "\n".join(
        line.removeprefix("INFO:  ").rstrip() for line in (done.stdout + done.stderr).splitlines()
    )
    if done.returncode:
        raise ValueError(f"{CHECKER} failed on {model.name}: {report[-400:]}")
    return report + "\n"


def summary(report: str) -> dict[str, dict[str, Any]]:
    """The report by provider (NNAPI, CoreML NeuralNetwork, CoreML MLProgram): `ready` nodes of `nodes`, the
    `partitions` they fall into, the operators it lacks and its verdict (YES, NO or MAYBE).

    Raises ValueError when the report does not have the form that is known.
    """
    found: dict[str, dict[str, Any]] = {}
    for section in re.split(r"^Checking (?=NNAPI|CoreML)", report, flags=re.MULTILINE)[1:]:
        counts = re.search(r"(\d+) partitions? with a total of (\d+)/(\d+) nodes", section)
        verdict = re.search(r"^Model should perform well with (.+) as is: (\w+)", section, flags=re.MULTILINE)
        if not (counts and verdict):
            break
        lacking = re.search(r"Unsupported ops: (\S+)", section)
        found[verdict[1]] = {
            "ready": int(counts[2]),
            "nodes": int(counts[3]),
            "partitions": int(counts[1]),
            "lacking": lacking[1].split(",") if lacking else [],
            "verdict": verdict[2],
        }
    if "NNAPI" not in found:
        raise ValueError(
            f"{CHECKER} wrote a report of a form that is not known: {report[:200]!r}; it is that of ONNX Runtime 1.26 "
            "to 1.32 that is read here"
        )
    return found
