"""An installed daprd instead of edge/sidecar, if the user says so and the minor version is the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.local import tools
from foremesh.mesh import Failed
from tests.mesh.harness import running_mesh


def test_a_mesh_runs_on_an_installed_daprd(tmp_path: Path) -> None:
    # The slim sidecar stands in for the official binary: same version, same flags, and found over mDNS as that one is.
    installed = tmp_path / "daprd"
    installed.symlink_to(tools.built(tools.SIDECAR))
    with running_mesh(tmp_path, daprd=str(installed)) as mesh:
        assert mesh.command_line("routing.sidecar")[0] == str(installed)
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
