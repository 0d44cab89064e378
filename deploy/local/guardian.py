"""Servers that are not ours: started so that none of their processes outlives us, whatever sessions they make.

A parent-death signal reaches a child alone, and servers such as Ray start a dozen processes in sessions of their own.
So a guardian stands between: `python -m deploy.local.guardian COMMAND...` starts the command, adopts what it leaves
behind (the kernel's child subreaper) and kills every descendant when the command ends or its own stdin does. The pipe
to its stdin is held by whoever started it, so even kill -9 of that process ends everything.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from deploy.local.process import LEASH, StartFailed
from deploy.local.tools import REPO

PR_SET_CHILD_SUBREAPER = 36  # <sys/prctl.h>
END_WITHIN_S = 3.0
POLL_S = 0.01
STOP_WITHIN_S = 20.0


class Guarded:
    """A server and all of its processes."""

    def __init__(self, name: str, argv: Sequence[str], *, log: Path) -> None:
        """Starts it in the repository's folder; what it says goes to `log`. Raises StartFailed where that cannot be."""
        self.name = name
        self._log = log
        with log.open("ab") as said:
            self._guardian = subprocess.Popen(
                [sys.executable, "-m", "deploy.local.guardian", *argv], cwd=REPO,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, start_new_session=True,
            )  # fmt: skip
        assert self._guardian.stdout is not None  # noqa: S101 (a pipe)
        first = self._guardian.stdout.readline()  # the guardian writes it, or ends
        if not first:
            self.stop()
            raise StartFailed(f"{name} could not be started\n{self.tail()}")
        self._spawned_at = float(first)

    def until(self, right: Callable[[], bool], within_s: float) -> float:
        """Poll until `right`; returns the seconds from the spawn of the server until then.

        Raises StartFailed when it ends before or takes longer; nothing of it is left then.
        """
        while not right():
            if self._guardian.poll() is not None:
                self.stop()
                raise StartFailed(f"{self.name} ended before it answered\n{self.tail()}")
            if time.monotonic() - self._spawned_at > within_s:
                self.stop()
                raise StartFailed(f"{self.name} did not answer rightly within {within_s:g} s\n{self.tail()}")
            time.sleep(POLL_S)
        return time.monotonic() - self._spawned_at

    def processes(self) -> list[psutil.Process]:
        """The server and everything that it has started."""
        try:
            return psutil.Process(self._guardian.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def rss_mb(self) -> float:
        """Resident memory of all its processes, 10^6 bytes; what they share counts for each of them."""
        return self._sum(lambda process: process.memory_info().rss) / 1e6

    def cpu_s(self) -> float:
        """Seconds of CPU that all of its processes have used, user and system."""
        return self._sum(lambda process: sum(process.cpu_times()[:2]))

    def _sum(self, of: Callable[[psutil.Process], float]) -> float:
        total = 0.0
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                total += of(process)
        return total

    def stop(self) -> None:
        """End all of its processes."""
        try:
            self._guardian.communicate(timeout=STOP_WITHIN_S)  # closes its stdin
        except subprocess.TimeoutExpired:
            self._guardian.kill()  # its server is on a leash
            self._guardian.communicate()

    def tail(self, lines: int = 12) -> str:
        """The end of what it has said."""
        with contextlib.suppress(OSError), self._log.open("rb") as file:
            file.seek(max(0, self._log.stat().st_size - 8192))
            return "\n".join(
                "    " + line for line in file.read().decode(errors="replace").splitlines()[-lines:]
            )
        return ""


def main() -> int:
    """Run a command until it ends or stdin does; returns its exit status."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        spawned_at = time.monotonic()
        server = subprocess.Popen([*LEASH, *sys.argv[1:]], stdin=subprocess.DEVNULL, stdout=sys.stderr)
    except OSError as error:
        print(f"{sys.argv[1]}: {error}", file=sys.stderr)
        return 1
    print(spawned_at, flush=True)

    def end_with_stdin() -> None:
        sys.stdin.read()
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(END_WITHIN_S)
        server.kill()

    threading.Thread(target=end_with_stdin, daemon=True).start()
    status = server.wait()
    end_descendants()
    return status


def end_descendants() -> None:
    """Kill until there is nobody left: who is starting another process when it dies leaves that one to us."""
    while left := psutil.Process().children(recursive=True):
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(main())
