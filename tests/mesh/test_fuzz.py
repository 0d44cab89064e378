"""Every service against its own OpenAPI document, by `schemathesis` in an environment of its own: nothing that can be
sent is a mistake of ours, an answer that the document does not describe, or the end of a process."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from deploy.local.environments import interpreter
from tests.mesh.harness import LEASH, RunningMesh, until
from tests.unit.routing.processes import free_port

ROOT = Path(__file__).parents[2]
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
)  # fmt: skip
EXAMPLES = 15
"""Random requests for each operation, beside those that cover its schema."""


@pytest.fixture(scope="module")
def schemathesis() -> Path:
    return interpreter(ROOT / "requirements/clients.lock").with_name("schemathesis")


def fuzz(schemathesis: Path, folder: Path, base: str, token: str = "") -> None:
    command = [
        *LEASH, str(schemathesis), "--config-file", str(Path(__file__).with_name("schemathesis.toml")), "run",
        f"{base}/openapi.json", "--phases", "examples,coverage,fuzzing", "--checks", ",".join(CHECKS),
        "--max-examples", str(EXAMPLES), "--seed", "1", "--generation-database", "none", "--warnings", "off",
        "--no-color", *(["--header", f"dapr-api-token:{token}"] if token else []),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, cwd=folder)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr
    assert httpx.get(f"{base}/healthz", timeout=10).status_code == 200


@pytest.mark.parametrize("app", ["tokenization", "inference-1", "routing", "autoscaler", "predictor"])
def test_a_service_withstands_whatever_is_sent(
    schemathesis: Path, mesh: RunningMesh, tmp_path: Path, app: str
) -> None:
    """The page's own server has no such document: it is for a browser."""
    until(lambda: mesh.ask()[0] == 200, 30, "the mesh answers")
    before = mesh.processes()[app]
    fuzz(schemathesis, tmp_path, f"http://127.0.0.1:{before['port']}", mesh.environment(app)["APP_API_TOKEN"])
    assert mesh.processes()[app]["pid"] == before["pid"], "it did not have to be started again"
    until(lambda: mesh.ask()[0] == 200, 30, "the mesh answers afterwards")


@contextlib.contextmanager
def alone(port: int) -> Iterator[None]:
    """Inference without a mesh."""
    command = [*LEASH, sys.executable, "-m", "foremesh.cli", "models", "serve", "--port", str(port)]
    process = subprocess.Popen([*command, "--load", "intent.tiny"], stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(15)


def test_inference_alone_withstands_whatever_is_sent(schemathesis: Path, tmp_path: Path) -> None:
    port = free_port()

    def ready() -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
        return False

    with alone(port):
        until(ready, 30, "inference is ready")
        fuzz(schemathesis, tmp_path, f"http://127.0.0.1:{port}")
