"""LitServe: `python -m lab.rivals.litserve_server FOLDER PORT WORK`.

As its documentation has it for throughput: `max_batch_size` with a `batch_timeout` of 0 (a run takes what is queued),
`fast_queue` between its two processes, log level warning, no generated client, no page of the interface.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import litserve

from lab.rivals.model import MOST_TOGETHER, Model


class Intents(litserve.LitAPI):
    """The model behind `POST /predict`."""

    def __init__(self, folder: Path, **batching: Any) -> None:
        super().__init__(**batching)
        self._folder = folder

    def setup(self, device: str) -> None:
        """Loads the model in the worker."""
        self._model = Model(self._folder)

    def decode_request(self, request: dict[str, str]) -> str:
        """The text of a request."""
        return request["text"]

    def predict(self, x: Sequence[str]) -> list[str]:
        """The label of each text."""
        return self._model.labels(x)

    def encode_response(self, output: str) -> dict[str, str]:
        """The answer of a request."""
        return {"intent": output}


def main() -> None:
    """Serves until it is ended."""
    api = Intents(Path(sys.argv[1]), max_batch_size=MOST_TOGETHER, batch_timeout=0.0)
    server = litserve.LitServer(
        api, accelerator="cpu", devices=1, workers_per_device=1, fast_queue=True, disable_openapi_url=True
    )
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[2]),
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
    )


if __name__ == "__main__":
    main()
