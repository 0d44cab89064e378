"""How the command talks to a mesh: start its supervisor, ask its control socket, wait for it to end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from deploy.local.settings import REPO, MeshSettings

CONTROL_TIMEOUT_S = 5.0
START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 25.0


class NotUp(Exception):
    """No mesh answers on this port base."""


class Failed(Exception):
    """The mesh did not start, or refused what was asked; the message says why."""


class MeshClient:
    """The control API of the mesh at `settings.port_base`. Raises NotUp when nobody answers."""

    def __init__(self, settings: MeshSettings) -> None:
        self.settings = settings

    def _call(self, method: str, path: str, body: object = None, timeout_s: float = CONTROL_TIMEOUT_S) -> Any:
        transport = httpx.HTTPTransport(uds=str(self.settings.control_socket))
        try:
            with httpx.Client(transport=transport, base_url="http://mesh", timeout=timeout_s) as http:
                reply = http.request(method, path, json=body)
        except httpx.ReadTimeout:
            raise Failed(f"the mesh is up but did not answer {path} within {timeout_s:.0f} s") from None
        except (httpx.TransportError, OSError) as e:
            base = self.settings.port_base
            raise NotUp(
                f"no mesh is up on port base {base}; start one with `foremesh up --port-base {base}`"
            ) from e
        if not reply.headers.get("content-type", "").startswith("application/"):
            raise Failed(f"the mesh answered {path} with {reply.status_code}: {reply.text.strip()}")
        document = reply.json()
        if reply.is_error:
            raise Failed(document.get("detail", reply.text))
        return document

    def status(self) -> dict[str, Any]:
        return dict(self._call("GET", "/status"))

    def hops(self) -> dict[str, int]:
        """{"mtls": n, "plaintext": n}: service invocations received, by what the port was seen to speak."""
        return dict(self._call("GET", "/hops"))

    def app(self, app: str) -> dict[str, Any]:
        return dict(self._call("GET", f"/apps/{app}"))

    def scale(self, app: str, replicas: int) -> dict[str, Any]:
        return dict(self._call("PUT", f"/apps/{app}/scale", {"replicas": replicas}))

    def configure(self, **changes: object) -> dict[str, Any]:
        """Change policy, capacity_rps or step_s of a running mesh; returns when the scaling path is ready again."""
        return dict(self._call("PUT", "/settings", changes, timeout_s=START_TIMEOUT_S))

    def is_up(self) -> bool:
        try:
            self.status()
        except NotUp:
            return False
        return True

    def down(self) -> None:
        """Ask the mesh to stop and wait until its supervisor has gone."""
        pid = int(self.status()["pid"])
        self._call("POST", "/down")
        wait_gone(pid, STOP_TIMEOUT_S)


def wait_gone(pid: int, within_s: float) -> None:
    """Poll until a process that may not be our child has ended; SIGKILL when it takes too long."""
    deadline = time.monotonic() + within_s
    while _lives(pid):
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            raise Failed(f"the supervisor ({pid}) did not stop within {within_s:.0f} s and was killed")
        time.sleep(0.05)


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:  # gone, or going while it was read
        return False
    return state not in ("Z", "X")


def start(settings: MeshSettings, *, leash: bool) -> subprocess.Popen[bytes]:
    """Start a supervisor and return when the mesh is serving. With `leash` it ends when this process does."""
    run_dir = settings.run_dir
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    state_file = run_dir / "state.json"
    state_file.unlink(missing_ok=True)
    (run_dir / "logs").mkdir(mode=0o700, exist_ok=True)
    log = (run_dir / "logs" / "supervisor.log").open("ab")
    argv = [
        sys.executable,
        "-m",
        "deploy.local.supervisor",
        *(["--leash"] if leash else []),
        settings.model_dump_json(),
    ]
    # A session of its own: Ctrl-C reaches this command alone, which then stops the mesh in order.
    child = subprocess.Popen(
        argv, cwd=REPO, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
    )
    log.close()
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        state: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            state = json.loads(state_file.read_text())
        if state.get("state") == "serving":
            return child
        if (code := child.poll()) is not None:
            if code == 3:
                raise Failed(
                    f"a mesh is up already on port base {settings.port_base}; `foremesh down` ends it"
                )
            raise Failed(
                state.get("error")
                or f"the supervisor exited with {code}; see {run_dir / 'logs/supervisor.log'}"
            )
        time.sleep(0.05)
    stop(child)
    raise Failed(f"the mesh was not serving within {START_TIMEOUT_S:.0f} s; see {run_dir / 'logs'}")


def stop(child: subprocess.Popen[bytes]) -> None:
    """End a supervisor of ours in order, or by force when it does not listen."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
