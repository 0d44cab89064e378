"""One real mesh per test module: real sidecars, real sentry, real Redis, on free ports."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.mesh.harness import RunningMesh, running_mesh


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOREMESH_TIERS", "mini")
        with running_mesh(tmp_path_factory.mktemp("mesh"), policy="static:1") as running:
            yield running
