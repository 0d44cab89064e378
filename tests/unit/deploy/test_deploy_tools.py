"""Binaries: the right version or a message that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.local import tools
from deploy.local.tools import DAPR_VERSION, GO_AT_LEAST, GoTool, ToolMissing


def program(folder: Path, name: str, says: str, code: int = 0) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\nexit {code}\n")
    path.chmod(0o755)
    return path


def version(*numbers: int) -> str:
    return "go version go" + ".".join(map(str, numbers)) + " linux/amd64"


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH (but for the shell's), in a checkout without a virtual environment."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(tools, "REPO", tmp_path / "checkout")
    return tmp_path


def test_go_is_taken_from_path_when_it_is_new_enough(empty: Path) -> None:
    assert tools.find_go() is None
    go = program(empty, "go", version(*GO_AT_LEAST))
    assert tools.find_go() == str(go)
    program(empty, "go", version(GO_AT_LEAST[0], GO_AT_LEAST[1] + 1))
    assert tools.find_go() == str(go)


@pytest.mark.parametrize("says", [version(1, 19, 8), "go version devel", "", "no such thing"])
def test_a_go_that_is_too_old_or_strange_is_passed_over(empty: Path, says: str) -> None:
    program(empty, "go", says)
    assert tools.find_go() is None
    packaged = empty / "checkout/.venv/bin"
    packaged.mkdir(parents=True)
    newer = program(packaged, "go", version(*GO_AT_LEAST))
    assert tools.find_go() == str(newer)


@pytest.mark.parametrize(
    ("says", "numbers"),
    [
        (version(1, 26, 5), (1, 26, 5)),
        ("go version go1.27 linux/arm64", (1, 27)),
        ("go version go1.27-custom linux/arm64", (1, 27)),
        ("go version go1.27rc1 linux/arm64", (0,)),
    ],
)
def test_versions_of_go_are_numbers(tmp_path: Path, says: str, numbers: tuple[int, ...]) -> None:
    assert tools.go_version(str(program(tmp_path, "go", says))) == numbers


def test_a_go_that_fails_has_no_version(tmp_path: Path) -> None:
    assert tools.go_version(str(program(tmp_path, "go", version(9, 9), code=1))) == (0,)
    assert tools.go_version(str(tmp_path / "none")) == (0,)


def test_a_daprd_of_the_same_minor_version_is_taken(tmp_path: Path) -> None:
    minor = DAPR_VERSION.rsplit(".", 1)[0]
    daprd = program(tmp_path, "daprd", f"{minor}.99")
    assert tools.sidecar(str(daprd)) == daprd


@pytest.mark.parametrize(
    ("says", "code", "message"),
    [
        ("1.17.4", 0, r"is 1\.17\.4, the mesh needs 1\.18\.x"),
        ("edge", 0, r"the mesh needs 1\.18\.x"),
        (DAPR_VERSION, 1, "does not tell its version"),
    ],
)
def test_another_daprd_is_refused_with_the_way_out(
    tmp_path: Path, says: str, code: int, message: str
) -> None:
    daprd = program(tmp_path, "daprd", says, code)
    with pytest.raises(ToolMissing, match=message) as raised:
        tools.sidecar(str(daprd))
    assert str(daprd) in str(raised.value)
    assert "edge/sidecar" in str(raised.value)


def test_a_daprd_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ToolMissing, match="daprd '/nowhere/daprd' not found"):
        tools.sidecar("/nowhere/daprd")


def test_a_binary_that_is_not_built_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ToolMissing, match="make setup"):
        tools.built(tools.SIDECAR)


def test_a_built_binary_is_known_by_what_it_was_built_from(tmp_path: Path) -> None:
    (tmp_path / "main.go").write_text("package main")
    (tmp_path / "go.mod").write_text("module m")
    tool = GoTool("t", tmp_path, ".", "tool")
    first = tool.path
    (tmp_path / "main_test.go").write_text("package main")
    assert tool.path == first, "its tests are no part of it"
    (tmp_path / "main.go").write_text("package main // changed")
    assert tool.path != first
    second = tool.path
    (tmp_path / "go.sum").write_text("x v1 h1:y")
    assert tool.path != second
    assert GoTool("t", tmp_path, ".", "tool", ldflags="-w").path != tool.path


def test_redis_is_named_when_it_is_missing(empty: Path) -> None:
    with pytest.raises(ToolMissing, match="redis-server"):
        tools.redis_server()
    own = program(empty, "redis-server", "")
    assert tools.redis_server() == own
