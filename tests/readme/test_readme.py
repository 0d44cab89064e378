"""Every command of the README, run as it stands, on a mesh of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from deploy.local.settings import REPO
from tests.mesh.harness import LEASH, free_port_base, until

BLOCKS = re.findall(r"^```sh\n(.*?)^```", (REPO / "README.md").read_text(), re.MULTILINE | re.DOTALL)
# `make test` is what runs this; running it from here would never end.
RUNNING_NOW = "make test"
ARGUMENTS = {"make demo": "--duration 12 --peak 60", "make bench": "--rounds 1 --seconds 0.5"}


def commands(block: str) -> list[str]:
    """The block's commands, without the remarks behind them."""
    return [line.split("  #")[0].split("   #")[0].strip() for line in block.splitlines() if line.strip()]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The user's environment, on free ports and with a state directory of its own."""
    base = free_port_base()
    return os.environ | {
        "FOREMESH_PORT_BASE": str(base),
        "FOREMESH_STATE_DIR": str(tmp_path),
        "PATH": f"{REPO / '.venv/bin'}:{os.environ['PATH']}",
        "COLUMNS": "160",
    }


def test_the_readme_has_the_two_commands() -> None:
    assert commands(BLOCKS[0]) == ["make demo", RUNNING_NOW]


@pytest.mark.timeout(280)
@pytest.mark.parametrize("number", range(1, len(BLOCKS)))
def test_commands_of_the_readme(number: int, environment: dict[str, str], tmp_path: Path) -> None:
    base = environment["FOREMESH_PORT_BASE"]
    try:
        for command in commands(BLOCKS[number]):
            if command == "make lint":
                continue  # the gate runs it beside the tests; it takes minutes
            here = command.replace("127.0.0.1:8700", f"127.0.0.1:{base}").replace(
                "demo.json", f"{tmp_path}/demo.json"
            )
            done = subprocess.run(
                [*LEASH, "bash", "-c", here],
                cwd=REPO,
                env=environment | {"ARGS": ARGUMENTS.get(command, "")},
                capture_output=True,
                text=True,
                timeout=200,
                check=False,
            )
            assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    finally:
        subprocess.run(
            ["foremesh", "down"], env=environment, cwd=REPO, capture_output=True, check=False, timeout=60
        )


def test_make_demo_leaves_the_page_up_until_ctrl_c(environment: dict[str, str], tmp_path: Path) -> None:
    out = (tmp_path / "demo.out").open("w")
    demo = subprocess.Popen(
        [*LEASH, "make", "demo"],
        cwd=REPO,
        env=environment | {"ARGS": ARGUMENTS["make demo"]},
        stdout=out,
        stderr=out,
        start_new_session=True,
    )
    try:
        page = f"http://127.0.0.1:{int(environment['FOREMESH_PORT_BASE']) + 1}"
        until(lambda: "the page stays up" in (tmp_path / "demo.out").read_text(), 120, "the table is printed")
        text = (tmp_path / "demo.out").read_text()
        assert page in text
        assert "0 in plaintext" in text
        assert (
            subprocess.run(["curl", "-sf", page], capture_output=True, check=False, timeout=10).returncode
            == 0
        )
        began = time.monotonic()
        os.killpg(demo.pid, signal.SIGINT)
        demo.wait(30)
        assert time.monotonic() - began < 25
    finally:
        if demo.poll() is None:
            os.killpg(demo.pid, signal.SIGKILL)
            demo.wait()
        out.close()


def test_curl_is_there_for_the_readme() -> None:
    assert shutil.which("curl"), "the README's curl commands need curl: apt-get install curl"
