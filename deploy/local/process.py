"""One child process: started so that it cannot outlive the supervisor, watched until ready, ended in two steps."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Kind = Literal["infra", "app", "sidecar"]
State = Literal["stopped", "starting", "ready", "stopping"]

READY_POLL_S = 0.03
LOGS_KEPT = 3

# The kernel sends this to the child when the supervisor dies, even of kill -9. KILL, not TERM: nobody is left who
# would insist. Redis' append-only file is written before a reply, so nothing that was acknowledged is lost.
LEASH = ("setpriv", "--pdeathsig", "KILL", "--")


class StartFailed(Exception):
    """A process ended, or was not ready in time; the message holds the end of its log."""


@dataclass(frozen=True)
class ProcessSpec:
    """How to run one process. `ready` is polled until it returns True; secrets are in `env`, never in `argv`."""

    name: str
    kind: Kind
    argv: tuple[str, ...]
    env: dict[str, str] = field(repr=False)
    ready: Callable[[], Awaitable[bool]]
    log: Path
    port: int
    app_id: str | None = None
    ready_within_s: float = 30.0
    stop_within_s: float = 8.0


class Process:
    """A running (or not yet running) `ProcessSpec`."""

    def __init__(self, spec: ProcessSpec) -> None:
        self.spec = spec
        self.state: State = "stopped"
        self.started_at = 0.0
        self.ready_s: float | None = None
        self._child: asyncio.subprocess.Process | None = None
        self._log_before = 0

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child and self._child.returncode is None else None

    async def start(self) -> None:
        """Spawn and wait until ready; raises StartFailed and leaves nothing running otherwise."""
        spec = self.spec
        self.state = "starting"
        self.started_at = time.time()
        began = time.monotonic()
        try:
            self._child = await self._spawn()
        except OSError as e:
            self.state = "stopped"
            raise StartFailed(f"{spec.name} could not be started: {e}") from e
        try:
            await asyncio.wait_for(self._until_ready(), spec.ready_within_s)
        except TimeoutError:
            await self.kill()
            raise StartFailed(
                f"{spec.name} was not ready within {spec.ready_within_s:.0f} s\n{self.tail()}"
            ) from None
        except BaseException:
            await self.kill()
            raise
        self.ready_s = time.monotonic() - began
        self.state = "ready"

    async def _spawn(self) -> asyncio.subprocess.Process:
        spec = self.spec
        spec.log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(spec.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._log_before = os.fstat(fd).st_size
        try:
            # Logs go to a file and not through a pipe: a full pipe would stop the child, a broken one end it.
            return await asyncio.create_subprocess_exec(
                *LEASH, *spec.argv, env=spec.env, stdin=asyncio.subprocess.DEVNULL, stdout=fd, stderr=fd,
                start_new_session=True, cwd=spec.env.get("PWD"),
            )  # fmt: skip
        finally:
            os.close(fd)

    async def _until_ready(self) -> None:
        assert self._child is not None  # noqa: S101
        while not await self.spec.ready():
            if self._child.returncode is not None:
                raise StartFailed(f"{self.spec.name} exited with {self._child.returncode}\n{self.tail()}")
            await asyncio.sleep(READY_POLL_S)

    async def wait(self) -> int:
        """Exit status, once it has ended."""
        return await self._child.wait() if self._child else 0

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL to what is still there after `stop_within_s`."""
        if self._child is None or self._child.returncode is not None:
            self.state = "stopped"
            return
        self.state = "stopping"
        with contextlib.suppress(ProcessLookupError):
            self._child.terminate()
        try:
            await asyncio.wait_for(self._child.wait(), self.spec.stop_within_s)
        except TimeoutError:
            await self.kill()
        self.state = "stopped"

    async def kill(self) -> None:
        if self._child is not None and self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                # Each child leads a session of its own, so what it may have forked goes with it.
                os.killpg(self._child.pid, signal.SIGKILL)
            await self._child.wait()
        self.state = "stopped"

    def tail(self, lines: int = 15) -> str:
        """The end of what it has logged; what an earlier process wrote to the same file is none of it."""
        with contextlib.suppress(OSError), self.spec.log.open("rb") as f:
            size = self.spec.log.stat().st_size
            f.seek(max(self._log_before if self._log_before <= size else 0, size - 8192))
            return "\n".join("    " + s for s in f.read().decode(errors="replace").splitlines()[-lines:])
        return ""

    def cpu_s(self) -> float:
        """CPU seconds used so far, user and system."""
        with contextlib.suppress(OSError, ValueError):
            fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return 0.0

    def pss_mb(self) -> float:
        """Proportional set size in MB: shared pages are split among those that share them."""
        with contextlib.suppress(OSError, ValueError):
            for line in Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    return int(line.split()[1]) / 1024
        return 0.0


def rotate(log: Path, limit_bytes: int) -> None:
    """Copy and truncate a log that has grown beyond the limit; the writer appends, so it needs no signal."""
    try:
        if log.stat().st_size < limit_bytes:
            return
        for n in range(LOGS_KEPT - 1, 0, -1):
            older = log.with_name(f"{log.name}.{n}")
            if older.exists():
                older.replace(log.with_name(f"{log.name}.{n + 1}"))
        shutil.copy2(log, log.with_name(f"{log.name}.1"))
        os.truncate(log, 0)
    except FileNotFoundError:
        return
