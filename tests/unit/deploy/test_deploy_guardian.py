"""A server that is not ours: all of its processes end with it, with its guardian's stdin, and with us."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from deploy.local.guardian import Guarded
from deploy.local.process import StartFailed
from deploy.local.settings import REPO

# Leaves a process behind in a session of its own, deaf to SIGTERM, as daemons of servers do; its pid goes to a file.
DAEMON = (
    "import os, pathlib, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "if not os.fork():\n"
    "    os.setsid()\n"
    "    if not os.fork():\n"
    "        pathlib.Path(sys.argv[1]).write_text(str(os.getpid()) + '\\n'); time.sleep(300)\n"
    "    os._exit(0)\n"
    "os.wait(); {then}"
)


def lives(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def written(file: Path) -> bool:
    return file.exists() and file.read_text().endswith("\n")


def wait(condition: Callable[[], object], within_s: float = 15.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "not within time"
        time.sleep(0.02)


def test_stop_ends_what_has_left_its_session(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    argv = [sys.executable, "-c", DAEMON.format(then="time.sleep(300)"), str(pid)]
    server = Guarded("server", argv, log=tmp_path / "log")
    assert 0 < server.until(lambda: written(pid), 15) < 15
    daemon = int(pid.read_text())
    assert daemon in {process.pid for process in server.processes()}
    assert len(server.processes()) == 2
    assert 5 < server.rss_mb() < 200
    assert 0 < server.cpu_s() < 15
    server.stop()
    assert not lives(daemon)
    assert server.processes() == []
    assert server.rss_mb() == server.cpu_s() == 0


def test_a_server_that_ends_leaves_nothing(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    argv = [sys.executable, "-c", DAEMON.format(then="sys.exit('no model here')"), str(pid)]
    server = Guarded("server", argv, log=tmp_path / "log")
    with pytest.raises(StartFailed, match=r"(?s)server ended before it answered.*no model here"):
        server.until(lambda: False, 15)
    assert not lives(int(pid.read_text()))


def test_what_does_not_answer_in_time_is_ended(tmp_path: Path) -> None:
    server = Guarded("server", [sys.executable, "-c", "import time; time.sleep(300)"], log=tmp_path / "log")
    processes = server.processes()
    with pytest.raises(StartFailed, match=r"did not answer rightly within 0\.3 s"):
        server.until(lambda: False, 0.3)
    assert not any(lives(process.pid) for process in processes)


def test_a_command_that_is_not_there_is_named(tmp_path: Path) -> None:
    server = Guarded("server", [str(tmp_path / "absent")], log=tmp_path / "log")
    with pytest.raises(StartFailed, match=r"(?s)server ended.*absent"):
        server.until(lambda: False, 15)


def test_kill_9_of_who_started_it_ends_everything(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    starter = (
        "import sys, time; from pathlib import Path; from deploy.local.guardian import Guarded\n"
        "server = Guarded('server', sys.argv[2:], log=Path(sys.argv[1])); time.sleep(300)"
    )
    server = [sys.executable, "-c", DAEMON.format(then="time.sleep(300)"), str(pid)]
    started = subprocess.Popen([sys.executable, "-c", starter, str(tmp_path / "log"), *server], cwd=REPO)
    try:
        wait(lambda: written(pid))
        descendants = psutil.Process(started.pid).children(recursive=True)
        assert int(pid.read_text()) in {process.pid for process in descendants}
    finally:
        started.send_signal(signal.SIGKILL)
        started.wait()
    wait(lambda: not any(lives(process.pid) for process in descendants))
