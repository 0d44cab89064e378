"""MLServer: `python -m lab.rivals.mlserver_server FOLDER PORT WORK` becomes `mlserver start` with a runtime of its own.

As its documentation has it: a custom runtime, adaptive batching by `max_batch_size` and `max_batch_time`, the pool of
processes off (`parallel_workers` 0), which for one model only adds a queue between processes. Batching needs a time
above 0; with so short a one a run takes what is queued.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

from lab.rivals.model import MOST_TOGETHER, Model


class Intents(MLModel):
    """The model behind `POST /v2/models/intent/infer`."""

    async def load(self) -> bool:
        """Loads the model in this process."""
        self._model = Model(Path(self.settings.parameters.uri))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """The label of each text of the batch that the server has put together."""
        labels = self._model.labels(StringCodec.decode_input(payload.inputs[0]))
        output = StringCodec.encode_output("intent", labels)
        return InferenceResponse(id=payload.id, model_name=self.name, outputs=[output])


def main() -> None:
    """Writes the server's settings and replaces this process by its own command."""
    folder, port, work = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    server = {
        "host": "127.0.0.1", "http_port": port, "grpc_port": port + 1, "metrics_port": port + 2,
        "metrics_endpoint": None, "metrics_dir": str(work), "parallel_workers": 0, "debug": False,
        "gzip_enabled": False, "model_repository_root": str(work),
    }  # fmt: skip
    model = {
        "name": "intent", "implementation": "lab.rivals.mlserver_server.Intents", "parameters": {"uri": folder},
        "max_batch_size": MOST_TOGETHER, "max_batch_time": 0.0001,
    }  # fmt: skip
    (work / "settings.json").write_text(json.dumps(server))
    (work / "model-settings.json").write_text(json.dumps(model))
    os.execv(sys.executable, [sys.executable, "-m", "mlserver.cli.main", "start", str(work)])  # noqa: S606


if __name__ == "__main__":
    main()
