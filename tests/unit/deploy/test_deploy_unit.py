"""Processes that belong together: started in order, restarted from the first that dies, stopped from the last."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from deploy.local.ports import NoFreePort
from deploy.local.process import StartFailed
from deploy.local.unit import BACKOFF_FIRST_S, FIRST_TRIES, Unit

MakeSpec = Callable[..., Any]


class Pair:
    """A unit of an app and its sidecar, with a record of what was called in which order."""

    def __init__(self, make_spec: MakeSpec, **more: Any) -> None:
        self.called: list[str] = []
        self.specs: dict[str, list[Any]] = {"app": [], "sidecar": []}

        def member(name: str) -> Callable[[], Any]:
            def make() -> Any:
                spec = make_spec(name)
                self.called.append(name)
                self.specs[name].append(spec)
                return spec

            return make

        self.unit = Unit(
            "pair",
            [member("app"), member("sidecar")],
            on_ready=lambda unit: self.called.append("ready"),
            on_down=lambda unit: self.called.append(f"down:{unit.state}"),
            **more,
        )

    def pids(self) -> list[int | None]:
        return [process.pid for process in self.unit.processes]


def test_members_start_in_order_and_stop_from_the_last(make_spec: MakeSpec) -> None:
    async def run() -> None:
        pair = Pair(make_spec)
        pair.unit.start()
        await pair.unit.until_ready(30)
        assert pair.called == ["app", "sidecar", "ready"]
        assert str(pair.unit.state) == "ready"
        assert pair.unit.start_delay_s and pair.unit.start_delay_s > 0
        app, sidecar = pair.unit.processes
        ended: list[str] = []
        watchers = [
            asyncio.create_task(note(p.wait(), ended, n)) for p, n in ((app, "app"), (sidecar, "sidecar"))
        ]
        await pair.unit.stop()
        await asyncio.gather(*watchers)
        assert ended == ["sidecar", "app"]
        assert pair.unit.state == "stopped"
        assert pair.called[3:] == ["down:draining"]

    asyncio.run(run())


async def note(ending: Any, ended: list[str], name: str) -> None:
    await ending
    ended.append(name)


def test_an_app_that_dies_takes_its_sidecar_along(make_spec: MakeSpec, until: Any) -> None:
    async def run() -> None:
        pair = Pair(make_spec)
        pair.unit.start()
        await pair.unit.until_ready(30)
        before = pair.pids()
        os.kill(before[0] or 0, signal.SIGKILL)
        await until(lambda: pair.called[-1] == "ready" and pair.called.count("ready") == 2)
        after = pair.pids()
        assert pair.called == ["app", "sidecar", "ready", "down:backoff", "app", "sidecar", "ready"]
        assert not set(before) & set(after)
        assert not any(psutil.pid_exists(pid or 0) for pid in before)
        assert pair.unit.restarts == 1
        assert "app exited with -9" in pair.unit.last_error
        first, second = pair.specs["app"]
        assert first is not second, "each start has a spec of its own: fresh ports"
        await pair.unit.stop()

    asyncio.run(run())


def test_a_sidecar_that_dies_is_restarted_alone(make_spec: MakeSpec, until: Any) -> None:
    async def run() -> None:
        pair = Pair(make_spec)
        pair.unit.start()
        await pair.unit.until_ready(30)
        app, sidecar = pair.pids()
        os.kill(sidecar or 0, signal.SIGKILL)
        await until(lambda: pair.called.count("ready") == 2)
        assert pair.called == ["app", "sidecar", "ready", "down:backoff", "sidecar", "ready"]
        assert pair.pids()[0] == app
        assert pair.pids()[1] not in (None, sidecar)
        await pair.unit.stop()

    asyncio.run(run())


def test_restarts_back_off(make_spec: MakeSpec, until: Any) -> None:
    async def run() -> None:
        began: list[float] = []

        def failing() -> Any:
            began.append(time.monotonic())
            return make_spec("failing", "import sys; sys.exit(3)")

        unit = Unit("failing", [failing])
        unit.start()
        await until(lambda: len(began) >= 5)
        gaps = [b - a for a, b in itertools.pairwise(began)]
        # Doubled each time, jittered by a quarter; a loaded machine can only make them longer.
        for number, gap in enumerate(gaps):
            assert gap >= 0.75 * BACKOFF_FIRST_S * 2**number
        with pytest.raises(StartFailed, match="failing exited with 3"):
            await unit.until_ready(0.05)
        assert unit.restarts >= 4
        await unit.stop()
        assert unit.state == "stopped"

    asyncio.run(run())


def test_a_unit_that_never_comes_up_is_told_before_the_time_is_over(make_spec: MakeSpec) -> None:
    async def run() -> None:
        tries = itertools.count(1)

        def failing() -> Any:
            next(tries)
            return make_spec("failing", "import sys; sys.exit('no such module')")

        unit = Unit("failing", [failing])
        unit.start()
        began = time.monotonic()
        with pytest.raises(StartFailed, match="no such module"):
            await unit.until_ready(300)
        assert time.monotonic() - began < 60
        assert next(tries) > FIRST_TRIES, "a start or two may fail: a port can be taken in between"
        await unit.stop()

    asyncio.run(run())


def test_one_start_that_fails_is_not_the_end(make_spec: MakeSpec) -> None:
    async def run() -> None:
        tries = itertools.count(1)

        def make() -> Any:
            return make_spec("app", *(["import sys; sys.exit(3)"] if next(tries) < FIRST_TRIES else []))

        unit = Unit("app", [make])
        unit.start()
        await unit.until_ready(30)
        await unit.stop()

    asyncio.run(run())


def test_a_stop_in_the_middle_of_a_back_off_does_not_wait_for_it(make_spec: MakeSpec, until: Any) -> None:
    async def run() -> None:
        unit = Unit("failing", [lambda: make_spec("failing", "import sys; sys.exit(3)")])
        unit.start()
        await until(lambda: unit.restarts >= 4)
        began = time.monotonic()
        await asyncio.wait_for(unit.stop(), 5)
        assert time.monotonic() - began < 2

    asyncio.run(run())


def test_a_stop_in_the_middle_of_a_start_ends_what_was_started(make_spec: MakeSpec, until: Any) -> None:
    async def run() -> None:
        called: list[str] = []
        unit = Unit(
            "slow",
            [lambda: make_spec("app"), lambda: make_spec("never-ready", "import time; time.sleep(300)")],
            on_ready=lambda unit: called.append("ready"),
        )
        unit.start()
        await until(lambda: len(unit.processes) == 2 and unit.processes[1].pid)
        pids = [process.pid for process in unit.processes]
        await asyncio.wait_for(unit.stop(), 10)
        assert unit.state == "stopped"
        assert not any(psutil.pid_exists(pid or 0) for pid in pids)
        assert called == []

    asyncio.run(run())


def test_a_member_waits_for_what_comes_before_it(make_spec: MakeSpec, until: Any) -> None:
    async def run() -> None:
        gate = asyncio.Event()

        async def before() -> None:
            await gate.wait()

        pair = Pair(make_spec, before={1: before})
        pair.unit.start()
        await until(lambda: pair.unit.processes and pair.unit.processes[0].state == "ready")
        await asyncio.sleep(0.1)
        assert pair.called == ["app"]
        gate.set()
        await pair.unit.until_ready(30)
        assert pair.called == ["app", "sidecar", "ready"]
        await pair.unit.stop()

    asyncio.run(run())


def test_a_stop_does_not_wait_for_what_comes_before_a_member(make_spec: MakeSpec, until: Any) -> None:
    async def run() -> None:
        async def never() -> None:
            await asyncio.Event().wait()

        pair = Pair(make_spec, before={1: never})
        pair.unit.start()
        await until(lambda: pair.unit.processes and pair.unit.processes[0].state == "ready")
        await asyncio.wait_for(pair.unit.stop(), 5)
        assert pair.called == ["app", "down:draining"]

    asyncio.run(run())


def test_a_start_that_was_cancelled_can_be_stopped(make_spec: MakeSpec, until: Any) -> None:
    """Ctrl-C while the mesh comes up cancels what the sidecars wait for."""

    async def run() -> None:
        infra: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def before() -> None:
            await asyncio.shield(infra)

        pair = Pair(make_spec, before={1: before})
        pair.unit.start()
        await until(lambda: pair.unit.processes and pair.unit.processes[0].state == "ready")
        pid = pair.pids()[0]
        infra.cancel()
        await asyncio.sleep(0.05)
        await asyncio.wait_for(pair.unit.stop(), 10)
        assert pair.unit.state == "stopped"
        assert not psutil.pid_exists(pid or 0)

    asyncio.run(run())


def test_a_spec_that_cannot_be_made_is_told_and_tried_again(make_spec: MakeSpec) -> None:
    async def run() -> None:
        tries = itertools.count()

        def make() -> Any:
            if next(tries) == 0:
                raise NoFreePort("no free port between 1 and 2")
            return make_spec("app")

        unit = Unit("app", [make])
        unit.start()
        await unit.until_ready(30)
        assert "no free port" in unit.last_error
        await unit.stop()

    asyncio.run(run())


def test_restart_brings_the_whole_unit_back(make_spec: MakeSpec) -> None:
    async def run() -> None:
        pair = Pair(make_spec)
        pair.unit.start()
        await pair.unit.until_ready(30)
        before = pair.pids()
        await pair.unit.restart(30)
        assert pair.called.count("ready") == 2
        assert not set(before) & set(pair.pids())
        await pair.unit.stop()

    asyncio.run(run())
