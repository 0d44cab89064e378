"""The rivals by name, and ours: what is sent to each, and where the label stands in its answer."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lab.closed_loop import Target
from lab.utterances import Utterance

_ASK_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Rival:
    """A server as a client sees it. title: its name; path: what is POSTed to; expect: a piece of every right
    answer; body: the document that asks for a text; label: the label in the answer's document. Its server is
    `lab/rivals/<name>_server.py`, its environment `requirements/rivals/<name>.lock`."""

    title: str
    path: str
    expect: str
    body: Callable[[str], Any]
    label: Callable[[Any], str]

    def target(self, port: int, utterances: Sequence[Utterance]) -> Target:
        """The rival on a port of this machine, asked each utterance in turn."""
        bodies = [json.dumps(self.body(said.text), ensure_ascii=False) for said in utterances]
        return Target(f"http://127.0.0.1:{port}{self.path}", bodies, expect=self.expect)

    def ask(self, port: int, text: str) -> str | None:
        """The label that it answers for one text; None where it gives none."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ASK_WITHIN_S)
        try:
            body = json.dumps(self.body(text)).encode()
            connection.request("POST", self.path, body, {"content-type": "application/json"})
            response = connection.getresponse()
            answered = response.read()
            return self.label(json.loads(answered)) if response.status == 200 else None
        except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
            return None
        finally:
            connection.close()


def _open_inference(text: str) -> dict[str, Any]:
    return {"inputs": [{"name": "text", "shape": [1, 1], "datatype": "BYTES", "data": [text]}]}


RIVALS = {
    "bentoml": Rival(
        "BentoML", "/intents", '["', lambda text: {"texts": [text]}, lambda answer: str(answer[0])
    ),
    "mlserver": Rival(
        "MLServer",
        "/v2/models/intent/infer",
        '"outputs"',
        _open_inference,
        lambda answer: str(answer["outputs"][0]["data"][0]),
    ),
    "litserve": Rival(
        "LitServe", "/predict", '"intent"', lambda text: {"text": text}, lambda answer: str(answer["intent"])
    ),
    "ray": Rival(
        "Ray Serve", "/", '"intent"', lambda text: {"text": text}, lambda answer: str(answer["intent"])
    ),
}
OURS = Rival(
    "Foremesh", "/v1/intents", '"intent"', lambda text: {"text": text}, lambda answer: str(answer["intent"])
)
