"""A real mesh for tests, load on it, and looks at its processes from outside."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.local.ports import is_free
from deploy.local.settings import MeshSettings
from foremesh import mesh as lifecycle
from foremesh.mesh import MeshClient

TEXTS = [
    "turn on the kitchen light",
    "what is the weather like tomorrow",
    "wake me up at seven",
    "play some jazz",
    "add milk to my shopping list",
    "what time is it in tokyo",
]


def free_port_base() -> int:
    """A port base whose ports for people are free; random, so that test runs side by side do not meet.

    Below the ports that the kernel hands out to clients: one of those could take a port between its choice and its use.
    """
    while True:
        base = random.randrange(10_000, 32_000, 200)
        if all(is_free(base + n) for n in range(40)):
            return base


@contextlib.contextmanager
def running_mesh(state_dir: Path, **settings: Any) -> Iterator[RunningMesh]:
    """A mesh on free ports, ended with its parent even when the test run is killed."""
    chosen = MeshSettings(port_base=free_port_base(), state_dir=state_dir, **settings)
    child = lifecycle.start(chosen, leash=True)
    try:
        yield RunningMesh(chosen, MeshClient(chosen), child.pid)
    finally:
        lifecycle.stop(child)


@dataclass
class RunningMesh:
    settings: MeshSettings
    client: MeshClient
    supervisor_pid: int

    def processes(self) -> dict[str, dict[str, Any]]:
        return {p["name"]: p for p in self.client.status()["processes"]}

    def environment(self, process: str) -> dict[str, str]:
        """The environment of a live process, secrets included: only root or its owner can read it."""
        raw = Path(f"/proc/{self.processes()[process]['pid']}/environ").read_bytes()
        return dict(pair.split("=", 1) for pair in raw.decode().split("\0") if "=" in pair)

    def command_line(self, process: str) -> list[str]:
        raw = Path(f"/proc/{self.processes()[process]['pid']}/cmdline").read_bytes()
        return raw.decode().split("\0")[:-1]

    def flag(self, process: str, name: str) -> str:
        """The value of a flag in a process' command line, such as `--dapr-http-port`."""
        line = self.command_line(process)
        return line[line.index(name) + 1]

    def ask(self, text: str = TEXTS[0], timeout_s: float = 10.0, **more: Any) -> tuple[int, dict[str, Any]]:
        """(status, document) of one request through the gateway."""
        return self.post("/v1/intents", {"text": text, **more}, timeout_s)

    def post(self, path: str, body: Any, timeout_s: float = 10.0) -> tuple[int, dict[str, Any]]:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        status, _, document = self.exchange("POST", path, raw, timeout_s)
        return status, document

    def get(self, path: str) -> tuple[int, dict[str, Any]]:
        status, _, document = self.exchange("GET", path, None, 10.0)
        return status, document

    def exchange(
        self, method: str, path: str, body: bytes | None, timeout_s: float
    ) -> tuple[int, dict[str, str], dict[str, Any]]:
        """(status, headers with lower-case names, document)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.settings.port_base, timeout=timeout_s)
        try:
            connection.request(method, path, body, {"content-type": "application/json"})
            reply = connection.getresponse()
            headers = {k.lower(): v for k, v in reply.getheaders()}
            return reply.status, headers, json.loads(reply.read() or b"{}")
        finally:
            connection.close()


# For commands that a test starts: they end, in order, when the test run does, however it ends. A run that was started
# in the background hands down that SIGINT is ignored; they must hear a Ctrl-C all the same.
LEASH = ("env", "--default-signal=INT", "setpriv", "--pdeathsig", "TERM", "--")


def until(condition: Callable[[], Any], within_s: float, what: str) -> Any:
    """Poll until `condition` returns something true, and return it; AssertionError at the deadline."""
    deadline = time.monotonic() + within_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.02)


@dataclass
class Load:
    """Steady load from a few connections. `failures` are (time, what) of everything that was not a 200."""

    mesh: RunningMesh
    connections: int = 4
    pause_s: float = 0.01
    answered: int = 0
    last_answer: float = 0.0
    failures: list[tuple[float, str]] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Load:
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(self.connections)]
        for thread in self._threads:
            thread.start()
        until(lambda: self.answered >= self.connections, 15, "the load is being answered")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.mesh.settings.port_base, timeout=5.0)
        turn = number
        while not self._stop.is_set():
            turn += 1
            body = json.dumps({"text": TEXTS[turn % len(TEXTS)]})
            try:
                connection.request("POST", "/v1/intents", body, {"content-type": "application/json"})
                reply = connection.getresponse()
                text = reply.read()
                if reply.status == 200:
                    with self._lock:
                        self.answered += 1
                        self.last_answer = time.monotonic()
                else:
                    self._failed(f"{reply.status} {text[:200]!r}")
            except (OSError, http.client.HTTPException) as e:
                self._failed(f"{type(e).__name__} {e}")
                connection.close()
            self._stop.wait(self.pause_s)
        connection.close()

    def _failed(self, what: str) -> None:
        with self._lock:
            self.failures.append((time.monotonic(), what))

    def answered_after(self, moment: float) -> bool:
        return self.last_answer > moment
