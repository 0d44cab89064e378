"""Python environments beside the project's own: what a lock names with its hashes, installed once into the cache."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from deploy.local.process import LEASH
from deploy.local.tools import cache_dir

INSTALL_WITHIN_S = 1800.0


class EnvironmentFailed(Exception):
    """An environment could not be made; the message ends with what its installation said last."""


def interpreter(lock: Path, say: Callable[[str], None] = lambda line: None) -> Path:
    """The interpreter of the environment of a lock; made at first use, and anew when the lock changes.

    `say` is told when something is installed, which takes minutes. Raises `EnvironmentFailed`.
    """
    place = cache_dir() / f"{lock.stem}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
    python = place / "bin/python"
    cache_dir().mkdir(parents=True, exist_ok=True)
    with place.with_suffix(".making").open("w") as making:
        fcntl.flock(making, fcntl.LOCK_EX)  # whoever comes second waits and finds it made
        if (place / "done").exists():
            return python
        say(f"installing {lock.stem} into an environment of its own (once; takes minutes)")
        began = time.monotonic()
        shutil.rmtree(place, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(place)])
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
        _run([*pip, "--require-hashes", "-r", str(lock)])
        (place / "done").touch()
        say(f"installed {lock.stem} in {time.monotonic() - began:.0f} s")
    return python


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            [*LEASH, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_WITHIN_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentFailed(f"`{' '.join(command[:4])} …`: {error}") from None
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-5:])
        raise EnvironmentFailed(f"`{' '.join(command[:4])} …` exited with {done.returncode}: {said}")
