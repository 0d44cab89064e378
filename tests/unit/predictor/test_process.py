"""The service as a process of its own: it starts, hears, publishes, is killed and remembers."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from services.predictor.lstm import ARTEFACTS
from tests.unit.predictor.conftest import Sidecar
from tests.unit.predictor.test_app import TOKEN, traffic

REPOSITORY = Path(__file__).parents[3]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def predictor(
    sidecar: Sidecar, log: Path, **extra: str
) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "FOREMESH_PORT": str(port),
        "FOREMESH_STEP_S": "1",
        "FOREMESH_HISTORY_SAVE_S": "1",
        "DAPR_HTTP_PORT": str(sidecar.port),
        "DAPR_API_TOKEN": "for the sidecar",
        "APP_API_TOKEN": "for the app",
        **extra,
    }
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.predictor"], cwd=REPOSITORY, env=environment, stderr=output
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=TOKEN, timeout=2.0) as client:
            yield process, client
    finally:
        process.kill()
        process.wait(5)


def wait_until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_it_starts_forecasts_and_after_a_kill_goes_on_where_it_was(sidecar: Sidecar, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with predictor(sidecar, log) as (process, client):
        wait_until(lambda: ready(client))
        now = int(time.time())
        for back in range(10, -1, -1):
            assert client.post("/events/traffic", json=traffic(now - back)).json() == {"status": "SUCCESS"}
        wait_until(lambda: bool(sidecar.published) and "history" in sidecar.state)
        process.send_signal(signal.SIGKILL)
        process.wait(5)
    sidecar.published.clear()
    with predictor(sidecar, log) as (process, client):
        wait_until(lambda: ready(client))
        assert client.post("/events/traffic", json=traffic(int(time.time()) + 1)).status_code == 200
        wait_until(lambda: bool(sidecar.published) and sidecar.published[-1][1]["history_steps"] >= 11)
        process.send_signal(signal.SIGTERM)
        assert process.wait(6) == 0
    assert "history restored" in log.read_text()


def test_it_is_ready_in_two_seconds_of_its_own_work(sidecar: Sidecar, tmp_path: Path) -> None:
    """CPU time beside wall time: on a machine shared with other work only the former is the service's own."""
    best = float("inf")
    for _ in range(3):
        started = time.monotonic()
        with predictor(sidecar, tmp_path / "log") as (process, client):
            wait_until(lambda client=client: ready(client))  # type: ignore[misc]
            wall = time.monotonic() - started
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            best = min(best, wall, cpu)
        if best < 2.0:
            return
    raise AssertionError(f"ready after {best:.1f} s at best")


def test_it_does_not_start_with_a_network_that_is_not_the_cards(sidecar: Sidecar, tmp_path: Path) -> None:
    folder = tmp_path / "artefacts"
    shutil.copytree(ARTEFACTS, folder)
    with (folder / "forecaster.onnx").open("ab") as network:
        network.write(b"x")
    log = tmp_path / "log"
    with predictor(sidecar, log, FOREMESH_FORECASTER=str(folder)) as (process, _):
        assert process.wait(15) == 1
    assert "sha256" in log.read_text()
    assert "Traceback" not in log.read_text()
