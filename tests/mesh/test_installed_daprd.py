"""An installed daprd instead of edge/sidecar, if the user says so and the minor version is the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from deploy.local import tools
from foremesh.mesh import Failed
from tests.mesh.harness import running_mesh


@pytest.fixture(params=["slim", "official"])
def daprd(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The binary of a mesh: the official one where `daprd` is on PATH; the slim one can stand in for it: same
    version, same flags, and found over mDNS as that one is."""
    installed = tmp_path / "daprd"
    if request.param == "slim":
        installed.symlink_to(tools.built(tools.SIDECAR))
    elif official := shutil.which("daprd"):
        installed.symlink_to(official)
    else:
        pytest.skip("no daprd is on PATH")
    return installed


def test_a_mesh_runs_on_an_installed_daprd(daprd: Path, tmp_path: Path) -> None:
    with running_mesh(tmp_path, daprd=str(daprd)) as mesh:
        assert mesh.command_line("routing.sidecar")[0] == str(daprd)
        status, answer = mesh.ask("play some jazz")
        assert status == 200, answer
        assert mesh.client.hops()["plaintext"] == 0


def test_a_daprd_of_another_minor_version_is_refused(tmp_path: Path) -> None:
    installed = tmp_path / "daprd"
    installed.write_text("#!/bin/sh\necho 1.17.3\n")
    installed.chmod(0o755)
    with (
        pytest.raises(Failed, match=r"is 1\.17\.3, the mesh needs 1\.18"),
        running_mesh(tmp_path, daprd=str(installed)),
    ):
        pass
