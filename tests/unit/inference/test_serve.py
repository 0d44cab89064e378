"""`foremesh models serve` as a process: ready soon, asked by the public clients, ended by SIGTERM, refused clearly."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from deploy.local.environments import interpreter
from services.inference.protocols.v2.inference_pb2 import ModelInferRequest, ModelInferResponse
from tests.unit.common.catalog import write_entry
from tests.unit.routing.processes import ROOT, free_port

CATALOG = ROOT / "models/catalog"
READY_S = 30.0


class Serving:
    """The command, as people start it."""

    def __init__(self, *options: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "foremesh.cli", "models", "serve", "--port", str(self.port), *options],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            return response.status, json.loads(response.read() or b"null")
        finally:
            connection.close()

    def wait_ready(self) -> None:
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.ask("GET", "/readyz")[0] == 200:
                    return
            time.sleep(0.02)
        self.process.kill()
        raise AssertionError(f"not ready: {self.process.communicate()}")


@contextlib.contextmanager
def serving(*options: str) -> Iterator[Serving]:
    started = Serving(*options)
    try:
        started.wait_ready()
        yield started
    finally:
        started.process.kill()
        started.process.communicate()


@pytest.fixture(scope="module")
def clients() -> Path:
    """The interpreter of the public clients' environment, which is made once."""
    return interpreter(ROOT / "requirements/clients.lock")


@pytest.mark.skipif(not (CATALOG / "intent/mini").exists(), reason="models/catalog has no intent/mini")
def test_the_public_clients_get_what_they_ask_for(clients: Path) -> None:
    port = free_port()
    with serving("--load", "intent.tiny", "--grpc-port", str(port)) as started:
        addresses = [f"127.0.0.1:{started.port}", f"127.0.0.1:{port}"]
        told = subprocess.run(
            [clients, Path(__file__).with_name("public_clients.py"), *addresses],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert told.returncode == 0, told.stdout + told.stderr


def test_it_is_small_with_tiny_loaded_and_at_work() -> None:
    with serving("--load", "intent.tiny") as started:
        process = psutil.Process(started.process.pid)
        for number in range(500):
            text = f"turn on the {'kitchen ' * (number % 9)}light"
            assert started.ask("POST", "/v1/intents", {"text": text})[0] == 200
        assert process.memory_info().rss <= 80e6


def test_sigterm_answers_what_is_in_and_ends_with_0(tmp_path: Path) -> None:
    write_entry(tmp_path)
    with serving("--catalog", str(tmp_path), "--load", "intent.tiny") as started:
        statuses: list[int] = []
        texts = ["turn on the light " * 5] * 200

        def call() -> None:
            statuses.append(started.ask("POST", "/v1/intents", {"texts": texts})[0])

        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 10
        while not statuses and time.monotonic() < deadline:
            time.sleep(0.001)
        started.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(15)
        assert statuses == [200] * 4
        assert started.process.wait(15) == 0


def test_sigterm_answers_what_is_in_over_grpc_and_takes_nothing_more(tmp_path: Path) -> None:
    write_entry(tmp_path)
    port = free_port()
    options = ("--catalog", str(tmp_path), "--load", "intent.tiny", "--grpc-port", str(port))
    with serving(*options) as started, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            ModelInferRequest.SerializeToString,
            ModelInferResponse.FromString,
        )
        texts = [b"turn on the light " * 5] * 200
        tensor = {"name": "text", "datatype": "BYTES", "shape": [200], "contents": {"bytes_contents": texts}}
        request = ModelInferRequest(model_name="intent", inputs=[tensor], outputs=[{"name": "intent"}])
        ask(request, timeout=20)
        calls = [ask.future(request, timeout=20) for _ in range(2)]
        deadline = time.monotonic() + 10
        while not any(call.done() for call in calls) and time.monotonic() < deadline:
            time.sleep(0.001)
        started.process.send_signal(signal.SIGTERM)
        answers = [call.result().outputs[0].contents.bytes_contents for call in calls]
        assert [len(answer) for answer in answers] == [200] * 2
        assert started.process.wait(15) == 0
        with pytest.raises(grpc.RpcError):
            ask(request, timeout=1)
        assert started.process.communicate()[1] == ""


def test_a_new_entry_answers_without_a_restart(tmp_path: Path) -> None:
    write_entry(tmp_path / "catalog")
    with serving("--catalog", str(tmp_path / "catalog")) as started:
        body = {"text": "turn on the light", "model": "other"}
        assert started.ask("POST", "/v1/intents", body)[0] == 404
        write_entry(tmp_path / "made", model="other")
        (tmp_path / "made/other").rename(tmp_path / "catalog/other")
        deadline = time.monotonic() + 15
        while (status := started.ask("POST", "/v1/intents", body)[0]) != 200 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert status == 200


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--load", "intent.huge"), "'intent.huge' is not in the catalog"),
        (("--load", "intent.tiny", "--memory-mb", "10"), "FOREMESH_MEMORY_MB=10 is less than"),
    ],
)
def test_what_cannot_be_served_is_one_line_and_exit_code_1(
    tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    write_entry(tmp_path)
    _, errors, status = ended(Serving("--catalog", str(tmp_path), *options))
    assert (status, said in errors, errors.count("\n")) == (1, True, 1), errors


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    write_entry(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        _, errors, status = ended(Serving("--catalog", str(tmp_path), port=port))
    assert status == 1
    assert str(port) in errors and "in use" in errors, errors


def test_a_port_for_grpc_that_is_taken_is_named(tmp_path: Path) -> None:
    write_entry(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        out, errors, status = ended(Serving("--catalog", str(tmp_path), "--grpc-port", str(port)))
    assert (status, errors.count("\n"), out) == (1, 1, "")
    assert f"gRPC cannot listen on 127.0.0.1:{port}: the port is in use" in errors


def ended(started: Serving) -> tuple[str, str, int]:
    out, errors = started.process.communicate(timeout=30)
    return out, errors, started.process.returncode
