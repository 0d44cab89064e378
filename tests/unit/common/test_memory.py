"""Pages that only the start needed leave the process, and nothing that was written is lost with them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from services.common import memory

ROOT = Path(__file__).parents[3]

SMAPS = """\
7f0000000000-7f0000001000 r-xp 00000000 08:01 1 /usr/lib/libclean.so.6
Rss:                   4 kB
Anonymous:             0 kB
7f0000001000-7f0000002000 r--p 00000000 08:01 1 /usr/lib/librelocated.so
Rss:                   4 kB
Anonymous:             4 kB
7f0000002000-7f0000003000 rw-p 00000000 08:01 1 /usr/lib/libwritable.so
Anonymous:             0 kB
7f0000003000-7f0000004000 r--p 00000000 08:01 1 /models/model.onnx
Anonymous:             0 kB
7f0000004000-7f0000005000 r--p 00000000 00:00 0
Anonymous:             0 kB
7f0000005000-7f0000007000 r--p 00000000 08:01 1 /opt/with blanks.so/libother.so
Anonymous:             0 kB
"""

PROGRAM = """
import ssl, sys
import numpy as np, onnxruntime as ort
from services.common.memory import forget_start, give_back, resident_mb

session = ort.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
feed = {"ids": np.array([[5, 6, 7]]), "lengths": np.array([3])}
give_back()
told, before = session.run(None, feed)[0], resident_mb()
forget_start()
after = resident_mb()
assert (session.run(None, feed)[0] == told).all()
assert np.linalg.norm(np.random.default_rng(1).normal(size=(50, 50)) @ np.eye(50)) > 0
ssl.create_default_context()
forget_start()
assert (session.run(None, feed)[0] == told).all()
print(before - after)
"""


def test_ranges_are_of_libraries_and_hold_nothing_that_was_written() -> None:
    assert memory._clean(SMAPS) == [(0x7F0000000000, 0x7F0000001000), (0x7F0000005000, 0x7F0000007000)]
    assert memory._clean("") == []


@pytest.mark.skipif(not memory.SMAPS.exists(), reason="NOT CHECKED: this system has no memory map to read")
def test_a_process_gets_smaller_and_goes_on_as_before() -> None:
    model = ROOT / "models/catalog/intent/tiny/model.onnx"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(model)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 10, "more than 10 MB are the start's alone"


def test_a_system_without_a_memory_map_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "SMAPS", tmp_path / "none")
    memory.forget_start()
    (tmp_path / "none").write_text("no such thing\n")
    memory.forget_start()
