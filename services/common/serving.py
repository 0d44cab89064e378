"""Serving ASGI apps with uvicorn until a signal ends them: what every process here that answers HTTP does."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from socket import socket
from typing import Any, Protocol

import uvicorn
import uvloop

DRAIN_S = 5
BACKLOG = 1024
# Longer than any client here keeps an idle connection, so that no call meets one that is just being closed.
KEEPALIVE_S = 120
# Objects: a call holds some hundred while it is answered.
GARBAGE = 20_000


class Listens(Protocol):
    """What `run` serves."""

    async def listen(self) -> None:
        """Serve until `end` is called, then drain for DRAIN_S seconds at most."""

    def end(self) -> None:
        """Take nothing new, and let `listen` come to its end."""


class Listener(uvicorn.Server):
    """A uvicorn server that leaves the signals to `run`, which may run several of them. sockets: to listen on, instead
    of host and port."""

    def __init__(
        self, app: Any, host: str, port: int, *, max_connections: int, sockets: Sequence[socket] | None = None
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                http="httptools",
                ws="none",
                lifespan="on",
                access_log=False,
                log_config=None,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                limit_concurrency=max_connections,
                timeout_keep_alive=KEEPALIVE_S,
                timeout_graceful_shutdown=DRAIN_S,
            )
        )
        self._sockets = None if sockets is None else list(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture nothing."""
        yield

    async def listen(self) -> None:
        """Serve until `end` is called."""
        await self.serve(sockets=self._sockets)

    def end(self) -> None:
        """Let `listen` come to its end."""
        self.should_exit = True


def short_switches() -> None:
    """Let a second thread (a model's run, an export) wait 1 ms for the interpreter lock, not 5."""
    sys.setswitchinterval(0.001)


def run(
    listeners: Sequence[Listens],
    started: Callable[[], None] = lambda: None,
    within: AbstractAsyncContextManager[None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain for DRAIN_S seconds at most and return. started: called first; within:
    what is entered before that, and left when all is drained."""

    async def serve() -> None:
        loop = asyncio.get_running_loop()

        def stop() -> None:
            for listener in listeners:
                listener.end()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        async with within or contextlib.nullcontext():
            # What is imported by now lives as long as the process: keep the garbage collector from walking it
            # again. And let it look at what is new when that is more than the calls under way hold at any time, not
            # several times while it reads them.
            gc.collect()
            gc.freeze()
            gc.set_threshold(GARBAGE)
            started()
            await asyncio.gather(*(listener.listen() for listener in listeners))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
