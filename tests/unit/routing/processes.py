"""The request path as real processes, wired directly, on free ports."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
TOKEN = "processes-token-0123456789"


class Service:
    """One `python -m services.<app>`; its stderr goes to a file."""

    def __init__(self, app: str, folder: Path, environment: dict[str, str]) -> None:
        self.app = app
        self.port = free_port()
        self.log = folder / f"{app}.log"
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("FOREMESH_", "DAPR_"))}
        environment = {
            **kept,
            "APP_API_TOKEN": TOKEN,
            "FOREMESH_PORT": str(self.port),
            **environment,
        }
        self.started = time.perf_counter()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"services.{app}"], cwd=ROOT, env=environment, stderr=log, stdout=log
            )

    @property
    def base(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Return status and JSON of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            content = body if isinstance(body, bytes) or body is None else json.dumps(body)
            connection.request(method, path, content, {"dapr-api-token": TOKEN, **(headers or {})})
            response = connection.getresponse()
            return response.status, json.loads(response.read() or b"null")
        finally:
            connection.close()

    def wait_ready(self, timeout_s: float = 30.0) -> float:
        """Return the seconds from its start to its readiness; raises `RuntimeError` with its log if it ends
        first.
        """
        while time.perf_counter() - self.started < timeout_s:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.app} ended with {self.process.returncode}: {self.log.read_text()}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.ask("GET", "/readyz")[0] == 200:
                    return time.perf_counter() - self.started
            time.sleep(0.02)
        raise RuntimeError(f"{self.app} is not ready after {timeout_s} s: {self.log.read_text()}")

    def stop(self) -> int:
        """Send SIGTERM and return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
            raise


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def request_path(catalog: Path, folder: Path, **environment: str) -> Iterator[dict[str, Service]]:
    """Yield tokenization, inference and routing, ready, by name."""
    services: dict[str, Service] = {}
    everyone = {"FOREMESH_CATALOG": str(catalog), **environment}
    try:
        for app in ("tokenization", "inference"):
            services[app] = Service(app, folder, everyone)
        direct = json.dumps({app: service.base for app, service in services.items()})
        services["routing"] = Service("routing", folder, {**everyone, "FOREMESH_DIRECT": direct})
        for service in services.values():
            service.wait_ready()
        yield services
    finally:
        for service in services.values():
            service.stop()
