"""BentoML: `python -m lab.rivals.bentoml_server FOLDER PORT WORK` becomes `bentoml serve` on this module's service.

As its documentation has it for throughput: one batchable method that takes a list, one worker, access log off. The
dispatcher chooses how long to wait by what it measures; `max_latency_ms` is the age at which it drops a request, so it
is the client's time-out and not less.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Read when the package is imported: no usage statistics.
os.environ["BENTOML_DO_NOT_TRACK"] = "True"

import bentoml

from lab.rivals.model import MOST_TOGETHER, Model


@bentoml.service(
    workers=1,
    threads=1,
    traffic={"timeout": 10},
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
)
class Intents:
    """The model behind `POST /intents`."""

    def __init__(self) -> None:
        self._model = Model(Path(os.environ["RIVAL_FOLDER"]))

    @bentoml.api(batchable=True, max_batch_size=MOST_TOGETHER, max_latency_ms=5000)
    async def intents(self, texts: list[str]) -> list[str]:
        """The label of each text. A coroutine, because a hop to the thread pool costs more than a run of a small model
        and there is nothing else to do meanwhile."""
        return self._model.labels(texts)


def main() -> None:
    """Replaces this process by the server's own command."""
    folder, port, work = sys.argv[1:]
    os.environ |= {"RIVAL_FOLDER": folder, "BENTOML_HOME": work}
    serve = ["serve", "lab.rivals.bentoml_server:Intents", "--host", "127.0.0.1", "--port", port]
    os.execv(sys.executable, [sys.executable, "-m", "bentoml", *serve])  # noqa: S606 (this interpreter)


if __name__ == "__main__":
    main()
