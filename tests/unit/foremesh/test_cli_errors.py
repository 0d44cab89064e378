"""Mistakes and absences: one line on stderr that names the thing, and the exit code that scripts rely on."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

FAILED, USAGE, NOT_UP = 1, 2, 3


def started_nothing(tmp_path: Path, port_base: int) -> bool:
    """No supervisor was so much as tried, and nobody listens."""
    with socket.socket() as s:
        silent = s.connect_ex(("127.0.0.1", port_base)) != 0
    return silent and not (tmp_path / "state" / f"mesh-{port_base}" / "state.json").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("status", "--json"),
        ("down",),
        ("ask", "turn on the light"),
        ("scale", "inference", "2"),
        ("trace", "0123456789abcdef0123456789abcdef"),
    ],
    ids=" ".join,
)
def test_without_a_mesh_a_verb_says_so(foremesh: Any, words: tuple[str, ...], port_base: int) -> None:
    done = foremesh(*words)
    assert done.returncode == NOT_UP, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("foremesh: ")
    assert str(port_base) in done.stderr or f":{port_base + 2}" in done.stderr, (
        "Jaeger is on the port after next"
    )
    assert "foremesh up" in done.stderr or "is the mesh up?" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("up", "--cert-ttl", "soon"), "--cert-ttl"),
        (("up", "--replicas", "0"), "--replicas"),
        (("up", "--replicas", "9"), "replicas 9"),
        (("up", "--max-replicas", "99"), "--max-replicas"),
        (("up", "--policy", "guess"), "--policy"),
        (("up", "--cpu-limit", "nice"), "--cpu-limit"),
        (("up", "--replica-cpu", "-1"), "--replica-cpu"),
        (("up", "--port-base", "80"), "--port-base"),
        (("status", "--port-base", "80"), "--port-base"),
        (("demo", "--policy", "guess"), "--policy"),
        (("demo", "--duration", "1"), "--duration"),
        (("scale", "inference", "-1"), "-1"),
        (("scale", "inference", "many"), "'many'"),
        (("logs", "gateway", "--lines", "0"), "--lines"),
        (("bench", "mesh", "--rounds", "0"), "--rounds"),
        (("trace", "not-hex"), "not-hex"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_option_is_named(
    foremesh: Any, words: tuple[str, ...], option: str, tmp_path: Path, port_base: int
) -> None:
    done = foremesh(*words)
    assert done.returncode == USAGE, done.stderr
    assert option in done.stderr
    assert "Traceback" not in done.stderr
    assert started_nothing(tmp_path, port_base)


def test_a_wrong_setting_in_the_environment_is_named(foremesh: Any, tmp_path: Path, port_base: int) -> None:
    done = foremesh("up", FOREMESH_TRACE_RATIO="often")
    assert done.returncode == USAGE
    assert "trace-ratio" in done.stderr
    assert "often" in done.stderr
    assert started_nothing(tmp_path, port_base)


def test_an_unknown_log_is_named_with_the_known_ones(foremesh: Any, tmp_path: Path, port_base: int) -> None:
    done = foremesh("logs", "nosuch")
    assert done.returncode == USAGE
    assert "'nosuch'" in done.stderr
    assert "none yet" in done.stderr
    logs = tmp_path / "state" / f"mesh-{port_base}" / "logs"
    logs.mkdir(parents=True)
    (logs / "gateway.log").write_text("one\ntwo\nthree\n")
    assert "gateway" in foremesh("logs", "nosuch").stderr
    assert foremesh("logs", "../../../etc/passwd").returncode == USAGE
    assert foremesh("logs", "gateway", "-n", "2").stdout == "two\nthree\n"


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ("timestamp,requests\n2026-01-31T06:00:00Z,5\n2026-01-31T06:01:00Z,many\n", "line 3"),
        ("timestamp,requests\n2026-01-31T06:00:00Z,5\nyesterday,6\n", "line 3"),
        ("timestamp,requests\n10,5\n20,-6\n", "line 3"),
        ("time,count\n1,2\n", "line 1"),
        ("", "empty"),
        (None, "no such file"),
    ],
    ids=["count", "time", "negative", "header", "empty", "missing"],
)
def test_a_bad_trace_is_named_before_anything_starts(
    foremesh: Any, tmp_path: Path, port_base: int, content: str | None, where: str
) -> None:
    trace = tmp_path / "traffic.csv"
    if content is not None:
        trace.write_text(content)
    done = foremesh("demo", "--trace", str(trace))
    assert done.returncode == USAGE, done.stderr
    assert str(trace) in done.stderr
    assert where in done.stderr
    assert "Traceback" not in done.stderr
    assert started_nothing(tmp_path, port_base)


def test_bad_utterances_are_named_before_anything_starts(
    foremesh: Any, tmp_path: Path, port_base: int
) -> None:
    said = tmp_path / "said.tsv"
    said.write_text("text\tintent\nhello\tgreet\nno intent here\n")
    done = foremesh("demo", "--utterances", str(said))
    assert done.returncode == USAGE
    assert f"{said} line 3" in done.stderr
    assert started_nothing(tmp_path, port_base)


def test_a_port_that_is_taken_fails_the_start_by_name(foremesh: Any, port_base: int) -> None:
    with socket.create_server(("127.0.0.1", port_base)):
        done = foremesh("up")
    assert done.returncode == FAILED
    assert f"port {port_base} is taken" in done.stderr
    assert "--port-base" in done.stderr


def test_a_mesh_that_hangs_is_not_said_to_be_down(
    tmp_path: Path, port_base: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its supervisor is there and does not answer: `foremesh up` would be the wrong advice."""
    from deploy.local.settings import MeshSettings  # noqa: PLC0415
    from foremesh import mesh  # noqa: PLC0415

    monkeypatch.setattr(mesh, "CONTROL_TIMEOUT_S", 0.2)
    settings = MeshSettings(port_base=port_base, state_dir=tmp_path)
    settings.run_dir.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(settings.control_socket))
        server.listen()
        with pytest.raises(mesh.Failed, match="did not answer /status"):
            mesh.MeshClient(settings)._call("GET", "/status", timeout_s=0.2)
