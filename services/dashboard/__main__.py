"""`python -m services.dashboard`: listens for its sidecar and, on the public port, for people."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import Any

import uvicorn
import uvloop
from pydantic import ValidationError

from services.common.settings import explain
from services.common.telemetry import flush, setup
from services.dashboard.app import Dashboard
from services.dashboard.settings import Settings

DRAIN_S = 5


class Listener(uvicorn.Server):
    """A uvicorn server that leaves the signals to the process, which has two of them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture nothing."""
        yield


async def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; open streams are ended first, since draining would wait for them."""
    dashboard = Dashboard(settings)
    listeners = [
        _listener(dashboard.app, settings.port, settings, lifespan="on"),
        _listener(dashboard.public, settings.public_port, settings, lifespan="off"),
    ]

    def stop() -> None:
        dashboard.feed.close()
        for listener in listeners:
            listener.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    await asyncio.gather(*(listener.serve() for listener in listeners))


def _listener(app: Any, port: int, settings: Settings, *, lifespan: Any) -> Listener:
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=port,
        http="httptools",
        ws="none",
        lifespan=lifespan,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        backlog=256,
        limit_concurrency=settings.max_connections,
        timeout_graceful_shutdown=DRAIN_S,
    )
    return Listener(config)


def main() -> None:
    """Run the dashboard with the settings of the environment; one line on stderr when they cannot be used."""
    try:
        settings = Settings()
    except ValidationError as error:
        sys.exit(f"services.dashboard cannot start: {explain(error, Settings)}")
    setup(settings)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(settings))
    flush()


if __name__ == "__main__":
    main()
