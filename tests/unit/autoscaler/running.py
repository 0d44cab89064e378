"""The service as a process of its own, beside a control socket and a sidecar that record what it does."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jsonschema

from tests.unit.autoscaler.conftest import Sidecar, Supervisor

REPOSITORY = Path(__file__).parents[3]
CONTRACTS = REPOSITORY / "services" / "contracts"
TOKEN = {"dapr-api-token": "for the app"}
TICK_S = 0.1


@dataclass
class Service:
    """The running process, a client with its token, its log."""

    process: subprocess.Popen[bytes]
    http: httpx.Client
    log: Path
    ready_s: float

    def event(self, topic: str, data: Any) -> str:
        reply = self.http.post(
            f"/events/{topic}",
            json={"specversion": "1.0", "id": "1", "source": "test", "topic": topic, "data": data},
        )
        assert reply.status_code == 200
        return str(reply.json()["status"])

    def traffic(self, arrivals: int, *, seconds: int = 1) -> None:
        newest = int(time.time())
        for t in range(newest - seconds + 1, newest + 1):
            message = {
                "t": t,
                "arrivals": arrivals,
                "answered": arrivals,
                "shed": 0,
                "failed": 0,
                "in_flight": 1,
                "p50_ms": 12.5,
                "p95_ms": 20.0,
                "p99_ms": None,
                "instance": "gateway",
            }
            keeps_contract("traffic", message)
            assert self.event("traffic", message) == "SUCCESS"

    def forecast(self, rate: float) -> None:
        message = {
            "issued_at": time.time(),
            "step_s": 2,
            "model": "lstm",
            "level_rps": rate,
            "horizons_s": [2, 4, 6, 10, 20],
            "quantiles": [0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99],
            "rates_rps": [[rate] * 7] * 5,
            "history_steps": 60,
            "compute_ms": 0.3,
        }
        keeps_contract("forecasts", message)
        assert self.event("forecasts", message) == "SUCCESS"

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


def environment(supervisor: Supervisor, sidecar: Sidecar | None, **extra: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "FOREMESH_CONTROL_SOCKET": str(supervisor.socket),
        "FOREMESH_TICK_S": str(TICK_S),
        "FOREMESH_CAPACITY_RPS": "100",
        "FOREMESH_START_GUARD_S": "0",
        "DAPR_HTTP_PORT": str(sidecar.port if sidecar else 0),
        "DAPR_API_TOKEN": "for the sidecar",
        "APP_API_TOKEN": TOKEN["dapr-api-token"],
        **extra,
    }


@contextmanager
def running(supervisor: Supervisor, sidecar: Sidecar | None, folder: Path, **extra: str) -> Iterator[Service]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "autoscaler.log"
    given = environment(supervisor, sidecar, FOREMESH_PORT=str(port), **extra)
    began = time.monotonic()
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.autoscaler"], cwd=REPOSITORY, env=given, stderr=output
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=TOKEN, timeout=2.0) as http:
            wait_until(lambda: answers(http), process)
            yield Service(process, http, log, time.monotonic() - began)
    finally:
        process.kill()
        process.wait(5)


def answers(http: httpx.Client) -> bool:
    try:
        return http.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def wait_until(
    condition: Callable[[], bool], process: subprocess.Popen[bytes] | None = None, seconds: float = 20.0
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        assert process is None or process.poll() is None, "the service has ended"
        time.sleep(0.02)


def keeps_contract(topic: str, message: dict[str, Any]) -> None:
    jsonschema.validate(message, json.loads((CONTRACTS / f"{topic}.schema.json").read_text()))


def codes(decision: dict[str, Any]) -> list[str]:
    return [reason["code"] for reason in decision["reasons"]]
