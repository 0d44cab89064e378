"""Real child processes, made to behave or misbehave as a test needs it."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from deploy.local.process import ProcessSpec

# Says that it is up by making a file, then goes on until it is told to stop.
STAYS = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(300)"
# The same, and deaf to SIGTERM.
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + STAYS

MakeSpec = Callable[..., ProcessSpec]


@pytest.fixture
def make_spec(tmp_path: Path) -> MakeSpec:
    """Specs of Python children: `code` gets the path of the file that means ready as its first argument."""
    made = iter(range(1000))

    def make(
        name: str = "child",
        code: str = STAYS,
        *,
        argv: tuple[str, ...] = (),
        ready_within_s: float = 20.0,
        stop_within_s: float = 5.0,
    ) -> ProcessSpec:
        flag = tmp_path / f"{name}.{next(made)}.ready"

        async def ready() -> bool:
            return flag.exists()

        return ProcessSpec(
            name,
            "infra",
            argv or (sys.executable, "-I", "-S", "-c", code, str(flag)),
            {"PATH": os.environ["PATH"]},
            ready,
            tmp_path / "logs" / f"{name}.log",
            0,
            ready_within_s=ready_within_s,
            stop_within_s=stop_within_s,
        )

    return make


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    """Whatever a test starts must have ended with it."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    yield
    left = [c for c in psutil.Process().children(recursive=True) if c.pid not in before]
    for child in left:
        child.kill()
        child.wait(5)
    assert not left, f"still running after the test: {left}"


@pytest.fixture
def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


async def eventually(holds: Callable[[], object], within_s: float = 20.0) -> None:
    """Poll until `holds()`; fails the test when it does not in time."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"not so within {within_s:.0f} s"
        await asyncio.sleep(0.02)


@pytest.fixture
def until() -> Callable[..., object]:
    return eventually
