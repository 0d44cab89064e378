"""A unit: processes that belong together, kept alive. An app and its sidecar are one unit; so is Redis alone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal

from deploy.local.ports import NoFreePort
from deploy.local.process import Process, ProcessSpec, StartFailed
from deploy.local.tools import ToolMissing

log = logging.getLogger("foremesh.supervisor")

BACKOFF_FIRST_S = 0.1
BACKOFF_MOST_S = 10.0
HEALTHY_AFTER_S = 30.0
FIRST_TRIES = 3
"""Starts that may fail before the first that does not: a port can be taken in between, a bug stays."""

UnitState = Literal["starting", "ready", "backoff", "draining", "stopped"]
SpecFactory = Callable[[], ProcessSpec]


class Unit:
    """Starts its members in order, each when the one before is ready, and restarts from the first that dies.

    An app that dies takes its sidecar along: a sidecar without its app would go on drawing calls. A sidecar that dies
    is restarted alone. Each start asks its factory for a new spec, so ports are fresh and callers' connections
    to the dead address cannot hold them back. `before[i]` is awaited before member i is started.
    """

    def __init__(
        self,
        name: str,
        members: Sequence[SpecFactory],
        *,
        on_ready: Callable[[Unit], None] = lambda unit: None,
        on_down: Callable[[Unit], None] = lambda unit: None,
        before: Mapping[int, Callable[[], Awaitable[None]]] | None = None,
    ) -> None:
        self.name = name
        self.state: UnitState = "starting"
        self.processes: list[Process] = []
        self.restarts = 0
        self.since = time.time()
        self.start_delay_s: float | None = None
        self.last_error = ""
        self._members = members
        self._on_ready = on_ready
        self._on_down = on_down
        self._before = before or {}
        self._ready = asyncio.Event()
        self._failed_starts = 0
        self._hopeless = asyncio.Event()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=self.name)

    async def until_ready(self, within_s: float) -> None:
        """Raises StartFailed with the last error when the unit is not ready in time, or has failed to start
        `FIRST_TRIES` times and never been ready."""
        waits = [asyncio.create_task(event.wait()) for event in (self._ready, self._hopeless)]
        try:
            await asyncio.wait(waits, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if not self._ready.is_set():
            raise StartFailed(self.last_error or f"{self.name} was not ready within {within_s:.0f} s")

    async def restart(self, within_s: float) -> None:
        """End the first member in order; the rest of the unit follows it down and up again. Raises StartFailed."""
        self._ready.clear()
        self._hopeless.clear()
        self._failed_starts = 0
        if self.processes:
            await self.processes[0].stop()
        await self.until_ready(within_s)

    async def stop(self) -> None:
        """Take out of service, let what is in flight finish, end the processes: sidecar first, then app."""
        self._set("draining")
        self._on_down(self)
        self._stopping.set()
        if self._task is not None:
            # Waited for and not awaited: one whose start was cancelled ends as cancelled, and that is its own affair.
            await asyncio.wait({self._task})
        self._set("stopped")

    def report(self) -> list[dict[str, Any]]:
        """What GET /status tells of each process."""
        return [
            {
                "name": p.spec.name,
                "app_id": p.spec.app_id,
                "kind": p.spec.kind,
                "pid": p.pid,
                "state": p.state if self.state in ("starting", "ready") else self.state,
                "restarts": self.restarts,
                "uptime_s": round(time.time() - p.started_at, 1),
                "ready_s": p.ready_s and round(p.ready_s, 3),
                "pss_mb": round(p.pss_mb(), 1),
                "cpu_s": round(p.cpu_s(), 2),
                "port": p.spec.port,
            }
            for p in list(self.processes)
        ]

    def _set(self, state: UnitState) -> None:
        self.state = state
        self.since = time.time()

    async def _run(self) -> None:
        backoff = BACKOFF_FIRST_S
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            while not self._stopping.is_set():
                began = time.monotonic()
                try:
                    await self._start_missing(stopping)
                except (StartFailed, OSError) as e:
                    self.last_error = str(e)
                    log.error("%s", e)
                    self._failed_starts += 1
                    if self._failed_starts >= FIRST_TRIES:
                        self._hopeless.set()
                    # All of it again, on fresh ports: a sidecar's were chosen when its app was started, and a port that
                    # something else has taken since would be tried for ever.
                    for process in reversed(self.processes):
                        await process.stop()
                else:
                    if self._stopping.is_set():
                        break
                    if self.start_delay_s is None:
                        self.start_delay_s = time.monotonic() - began
                    self._set("ready")
                    self._failed_starts = 0
                    self._hopeless.clear()
                    self._ready.set()
                    self._on_ready(self)
                    ready_at = time.monotonic()
                    await self._until_one_ends(stopping)
                    if self._stopping.is_set():
                        break
                    if time.monotonic() - ready_at > HEALTHY_AFTER_S:
                        backoff = BACKOFF_FIRST_S
                self.restarts += 1
                self._ready.clear()
                self._set("backoff")
                self._on_down(self)
                await self._end_after_first_dead()
                delay = backoff * random.uniform(0.75, 1.25)
                log.warning("%s restarts in %.2f s", self.name, delay)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(stopping), delay)
                backoff = min(backoff * 2, BACKOFF_MOST_S)
        finally:
            stopping.cancel()
            for process in reversed(self.processes):
                await process.stop()
            self._set("stopped")

    async def _start_missing(self, stopping: asyncio.Task[object]) -> None:
        for index in range(len(self.processes), len(self._members)):
            if index in self._before and not await _unless(stopping, self._before[index]()):
                return
            try:
                process = Process(self._members[index]())
            except (OSError, NoFreePort, ToolMissing) as e:
                raise StartFailed(f"{self.name} could not be started: {e}") from e
            self.processes.append(process)
            if not await _unless(stopping, process.start()):
                return

    async def _until_one_ends(self, stopping: asyncio.Task[object]) -> None:
        waits = [asyncio.create_task(p.wait()) for p in self.processes]
        await asyncio.wait({*waits, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for process, wait in zip(self.processes, waits, strict=True):
            if wait.done():
                if not self._stopping.is_set():
                    self.last_error = f"{process.spec.name} exited with {wait.result()}"
                    log.warning("%s", self.last_error)
            else:
                wait.cancel()

    async def _end_after_first_dead(self) -> None:
        alive = 0
        while (
            alive < len(self.processes)
            and self.processes[alive].pid is not None
            and self.processes[alive].state == "ready"
        ):
            alive += 1
        for process in reversed(self.processes[alive:]):
            await process.kill()
        del self.processes[alive:]


async def _unless(stopping: asyncio.Task[object], work: Awaitable[None]) -> bool:
    """Await `work` and return True, or cancel it and return False when `stopping` comes first."""
    working = asyncio.ensure_future(work)
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if working.done():
        working.result()
        return True
    working.cancel()
    with contextlib.suppress(asyncio.CancelledError, StartFailed):
        await working
    return False
