"""A sidecar that is none: it records what the predictor publishes and keeps its state."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from services.predictor.champion import Champion
from services.predictor.lstm import Lstm
from services.predictor.served import served

SHARED_TRACES = Path(__file__).parents[4] / "shared" / "data" / "traces"


class Sidecar:
    """Dapr's publish and state routes over HTTP, on a free port."""

    def __init__(self) -> None:
        self.published: list[tuple[str, dict[str, Any]]] = []
        self.state: dict[str, Any] = {}
        self.tokens: set[str | None] = set()
        self.broken = False
        sidecar = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                sidecar.tokens.add(self.headers["dapr-api-token"])
                if sidecar.broken:
                    self._answer(500, b"{}")
                    return
                if self.path.startswith("/v1.0/publish/events/"):
                    sidecar.published.append((self.path.rpartition("/")[2], body))
                elif self.path == "/v1.0/state/scaling":
                    sidecar.state.update({item["key"]: item["value"] for item in body})
                self._answer(204, b"")

            def do_GET(self) -> None:
                value = sidecar.state.get(self.path.rpartition("/")[2])
                if sidecar.broken:
                    self._answer(500, b"{}")
                elif value is None:
                    self._answer(204, b"")
                else:
                    self._answer(200, json.dumps(value).encode())

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                if status != 204:
                    self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


@pytest.fixture
def sidecar() -> Iterator[Sidecar]:
    sidecar = Sidecar()
    yield sidecar
    sidecar.close()


@pytest.fixture(scope="session")
def lstm() -> Lstm:
    return Lstm()


@pytest.fixture
def champion() -> Champion:
    return served()


@pytest.fixture(scope="session")
def shared_traces() -> Path:
    if not SHARED_TRACES.is_dir():
        pytest.skip(f"real traces are not at {SHARED_TRACES}")
    return SHARED_TRACES
