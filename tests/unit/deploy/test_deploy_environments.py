"""An environment beside the project's own: made once, named by its lock, and no half of one is taken for it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from deploy.local import environments


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "thing.lock"


def test_it_is_made_once_and_anew_when_the_lock_changes(lock: Path) -> None:
    lock.write_text("# nothing\n")
    said: list[str] = []
    python = environments.interpreter(lock, said.append)
    assert subprocess.run([python, "-c", "import pip"], check=False, timeout=30).returncode == 0
    assert [line.split()[:2] for line in said] == [["installing", "thing"], ["installed", "thing"]]
    assert environments.interpreter(lock, said.append) == python
    assert len(said) == 2
    lock.write_text("# nothing else\n")
    assert environments.interpreter(lock) != python


def test_what_cannot_be_installed_is_told_and_tried_again(lock: Path) -> None:
    lock.write_text("./no-such-package ; python_version > '3'\n")
    for _ in range(2):
        with pytest.raises(environments.EnvironmentFailed, match="exited with 1"):
            environments.interpreter(lock)
