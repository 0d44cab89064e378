"""One child: waited for, ended in two steps, its log kept."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.local.process import Process, StartFailed, rotate

DEAF = (
    "import pathlib, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "pathlib.Path(sys.argv[1]).touch(); time.sleep(300)"
)
SERVER = "import socket, time; time.sleep(0.4); s = socket.create_server(('127.0.0.1', {port}))\nwhile True: s.accept()"


def test_it_is_ready_when_it_answers_and_not_before(
    make_spec: Callable[..., Any], free_port: int, until: Any
) -> None:
    spec = make_spec("server", SERVER.format(port=free_port))

    async def answers() -> bool:
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", free_port)) == 0

    async def run() -> None:
        process = Process(type(spec)(**(vars(spec) | {"ready": answers})))
        assert process.pid is None
        starting = asyncio.create_task(process.start())
        await until(lambda: process.pid)
        assert str(process.state) == "starting"
        await starting
        assert str(process.state) == "ready"
        assert process.ready_s is not None and process.ready_s >= 0.4
        assert process.pss_mb() > 1
        # The kernel counts in ticks of 10 ms: a small server may have used less than one.
        assert 0 <= process.cpu_s() < 10
        await process.stop()
        assert (process.state, process.pid) == ("stopped", None)

    asyncio.run(run())


def test_one_that_ends_before_it_is_ready_is_told_with_the_end_of_its_log(
    make_spec: Callable[..., Any],
) -> None:
    code = (
        "import sys\nfor n in range(40): print('line', n, flush=True)\n"
        "print('the reason', file=sys.stderr); sys.exit(7)"
    )
    process = Process(make_spec("failing", code))
    with pytest.raises(StartFailed) as raised:
        asyncio.run(process.start())
    message = str(raised.value)
    assert "failing exited with 7" in message
    assert "the reason" in message
    assert "line 39" in message
    assert "line 5\n" not in message, "the end of the log is enough"
    assert (process.state, process.pid) == ("stopped", None)


def test_one_that_is_not_ready_in_time_is_killed(make_spec: Callable[..., Any]) -> None:
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(300)"
    spec = make_spec("slow", code, ready_within_s=1.5)
    began = time.monotonic()
    with pytest.raises(StartFailed, match="slow was not ready within 2 s"):
        asyncio.run(Process(spec).start())
    assert time.monotonic() - began < 10
    assert not psutil.pid_exists(int(spec.log.read_text()))


def test_a_start_that_is_cancelled_leaves_nothing(make_spec: Callable[..., Any], until: Any) -> None:
    spec = make_spec("slow", "import time; time.sleep(300)")

    async def run() -> None:
        process = Process(spec)
        starting = asyncio.create_task(process.start())
        await until(lambda: process.pid)
        pid = process.pid or 0
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert not psutil.pid_exists(pid)

    asyncio.run(run())


def test_a_program_that_is_not_there_is_named(make_spec: Callable[..., Any]) -> None:
    with pytest.raises(StartFailed, match="ghost"):
        asyncio.run(Process(make_spec("ghost", argv=("/nowhere/ghost",))).start())


def test_it_gets_sigterm_and_time_to_finish(make_spec: Callable[..., Any]) -> None:
    code = (
        "import pathlib, signal, sys, time\n"
        "def end(*_):\n    time.sleep(0.3); print('finished'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end); pathlib.Path(sys.argv[1]).touch()\n"
        "while True: time.sleep(0.1)"
    )
    spec = make_spec("polite", code)

    async def run() -> None:
        process = Process(spec)
        await process.start()
        await process.stop()
        assert await process.wait() == 0

    asyncio.run(run())
    assert "finished" in spec.log.read_text()


def test_one_that_ignores_sigterm_is_killed(make_spec: Callable[..., Any]) -> None:
    async def run() -> None:
        process = Process(make_spec("deaf", DEAF, stop_within_s=0.5))
        await process.start()
        began = time.monotonic()
        await process.stop()
        assert 0.5 <= time.monotonic() - began < 5
        assert await process.wait() == -9
        assert process.state == "stopped"

    asyncio.run(run())


def test_kill_takes_what_it_forked_along(make_spec: Callable[..., Any], until: Callable[..., Any]) -> None:
    code = (
        "import subprocess, sys, pathlib, time\n"
        "c = subprocess.Popen([sys.executable, '-I', '-S', '-c', 'import time; time.sleep(300)'])\n"
        "print(c.pid, flush=True); pathlib.Path(sys.argv[1]).touch(); time.sleep(300)"
    )
    spec = make_spec("forking", code)

    async def run() -> None:
        process = Process(spec)
        await process.start()
        grandchild = int(spec.log.read_text())
        assert psutil.pid_exists(grandchild)
        await process.kill()
        await until(lambda: gone(grandchild))

    asyncio.run(run())


def gone(pid: int) -> bool:
    """Ended, or a zombie that only waits for somebody to take note."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_stopping_twice_and_before_the_start_is_nothing(make_spec: Callable[..., Any]) -> None:
    async def run() -> None:
        process = Process(make_spec())
        await process.stop()
        assert await process.wait() == 0
        await process.start()
        await process.stop()
        await process.stop()
        assert process.state == "stopped"

    asyncio.run(run())


def test_secrets_are_not_shown_by_accident(make_spec: Callable[..., Any]) -> None:
    spec = make_spec()
    spec.env["DAPR_API_TOKEN"] = "hush"
    assert "hush" not in repr(spec)


def test_logs_are_their_owner_s(make_spec: Callable[..., Any]) -> None:
    spec = make_spec()

    async def run() -> None:
        process = Process(spec)
        await process.start()
        await process.stop()

    asyncio.run(run())
    assert spec.log.stat().st_mode & 0o777 == 0o600
    assert spec.log.parent.stat().st_mode & 0o777 == 0o700


# The parent uses Process as the supervisor does, tells the child's pid and hangs.
PARENT = """
import asyncio, pathlib, sys
from deploy.local.process import Process, ProcessSpec
async def ready(): return True
async def main():
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"
    process = Process(ProcessSpec("child", "infra", (sys.executable, "-I", "-S", "-c", code), {"PATH": "/usr/bin:/bin"},
                                  ready, pathlib.Path(sys.argv[1]), 0))
    await process.start()
    await asyncio.sleep(0.5)
    print(process.pid, flush=True)
    await asyncio.sleep(300)
asyncio.run(main())
"""


def test_no_child_outlives_a_supervisor_that_is_killed(tmp_path: Path, until: Callable[..., Any]) -> None:
    repo = Path(__file__).resolve().parents[3]

    async def run() -> None:
        parent = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PARENT, str(tmp_path / "child.log"), cwd=repo, stdout=asyncio.subprocess.PIPE
        )  # fmt: skip
        assert parent.stdout is not None
        child = int(await asyncio.wait_for(parent.stdout.readline(), 30))
        assert not gone(child)
        assert psutil.Process(child).ppid() == parent.pid
        parent.kill()
        await parent.wait()
        await until(lambda: gone(child), 5)

    asyncio.run(run())


def test_rotation_keeps_three_and_loses_no_line(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    lines = [f"line {n:04d}\n" for n in range(400)]
    with log.open("a") as writer:
        for number, line in enumerate(lines):
            writer.write(line)
            writer.flush()
            if number % 100 == 99:
                rotate(log, 500)
    kept = [tmp_path / f"app.log.{n}" for n in (3, 2, 1)]
    assert [f.read_text() for f in kept] == ["".join(lines[n : n + 100]) for n in (100, 200, 300)]
    assert not (tmp_path / "app.log.4").exists()
    assert log.stat().st_size == 0


def test_a_child_goes_on_writing_after_rotation(make_spec: Callable[..., Any], until: Any) -> None:
    code = (
        "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch()\n"
        "for n in range(100000): print('line', n, flush=True); time.sleep(0.01)"
    )
    spec = make_spec("talking", code)

    async def run() -> None:
        process = Process(spec)
        await process.start()
        await until(lambda: spec.log.stat().st_size > 200)
        rotate(spec.log, 100)
        await until(lambda: spec.log.stat().st_size > 50)
        await process.stop()

    asyncio.run(run())
    assert spec.log.read_text().startswith("line "), "no hole of zeros at the start: the writer appends"
    assert spec.log.with_name("talking.log.1").read_text().startswith("line 0\n")


def test_a_small_log_and_one_that_is_not_there_stay_as_they_are(tmp_path: Path) -> None:
    small = tmp_path / "small.log"
    small.write_text("short\n")
    rotate(small, 100)
    rotate(tmp_path / "none.log", 100)
    assert [f.name for f in tmp_path.iterdir()] == ["small.log"]
