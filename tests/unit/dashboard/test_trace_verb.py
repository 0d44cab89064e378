"""`foremesh trace`: the tree on a terminal, JSON, exit codes, and patience with late spans."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from foremesh.trace import trace
from tests.browser.stage import RECORDED

MEMBER, BATCH = RECORDED["member"], RECORDED["batch"]


class Jaeger:
    """A stand-in; `answer` maps a trace id and the number of times it was asked for to a trace or None."""

    def __init__(self, answer: Callable[[str, int], dict[str, Any] | None]) -> None:
        asked: dict[str, int] = {}

        class Handler(BaseHTTPRequestHandler):
            """GET /api/traces/<id>."""

            def do_GET(self) -> None:
                trace_id = self.path.rsplit("/", 1)[1]
                asked[trace_id] = asked.get(trace_id, 0) + 1
                found = answer(trace_id, asked[trace_id])
                body = json.dumps({"data": [found] if found else None}).encode()
                self.send_response(200 if found else 404)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def jaeger() -> Iterator[Callable[..., str]]:
    """Starts stand-ins and ends them."""
    started: list[Jaeger] = []

    def start(answer: Callable[[str, int], dict[str, Any] | None]) -> str:
        started.append(Jaeger(answer))
        return started[-1].url

    yield start
    for one in started:
        one.server.shutdown()
        one.server.server_close()


def run(*arguments: str) -> Result:
    """The verb, as the command line runs it."""
    app = typer.Typer()
    app.command()(trace)
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "150", "TERM": "dumb"})


def recorded(trace_id: str, _: int) -> dict[str, Any] | None:
    """What was recorded, at once."""
    found: dict[str, Any] | None = RECORDED["traces"].get(trace_id)
    return found


def test_it_prints_the_tree(jaeger: Callable[..., str]) -> None:
    result = run(MEMBER.upper(), "--jaeger-url", jaeger(recorded))
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert MEMBER in lines[0] and "16 spans" in lines[0] and "no errors" in lines[0]
    assert any(line.lstrip().startswith("└─ gateway call routing (shared from here on)") for line in lines)
    assert any("└─ inference run tiny" in line and "2.05" in line for line in lines)
    assert result.output.count("(sidecar)") == 6
    assert "incomplete" not in result.output


def test_json_is_for_scripts(jaeger: Callable[..., str]) -> None:
    result = run(BATCH, "--json", "--jaeger-url", jaeger(recorded))
    document = json.loads(result.output)
    assert result.exit_code == 0 and document["complete"]
    assert {one["service"] for one in document["spans"]} == {
        "gateway",
        "routing",
        "tokenization",
        "inference",
    }
    ids = {one["span_id"] for one in document["spans"]}
    assert all(one["parent_id"] in ids for one in document["spans"] if one["depth"])


def test_late_spans_are_waited_for(jaeger: Callable[..., str]) -> None:
    def late(trace_id: str, time: int) -> dict[str, Any] | None:
        whole: dict[str, Any] = RECORDED["traces"][trace_id]
        if time == 1:
            return None
        return whole if time > 3 else whole | {"spans": whole["spans"][3:]}

    result = run(BATCH, "--json", "--jaeger-url", jaeger(late))
    assert len(json.loads(result.output)["spans"]) == 15


def test_what_stays_incomplete_is_shown_and_said(
    jaeger: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foremesh.trace.PATIENCE_S", 0.5)
    whole = RECORDED["traces"][BATCH]
    part = whole | {"spans": whole["spans"][:2] + whole["spans"][8:]}
    result = run(BATCH, "--jaeger-url", jaeger(lambda *_: part))
    assert result.exit_code == 0
    assert "incomplete" in result.output and "(orphan)" in result.output


def test_a_trace_that_never_comes_is_exit_code_1(
    jaeger: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foremesh.trace.PATIENCE_S", 0.5)
    result = run("0" * 32, "--jaeger-url", jaeger(lambda *_: None))
    assert result.exit_code == 1
    assert "is not known" in result.output


def test_other_failures_have_codes_of_their_own(jaeger: Callable[..., str]) -> None:
    nonsense = run("not-hex", "--jaeger-url", jaeger(recorded))
    assert nonsense.exit_code == 2 and "not a trace id" in nonsense.output
    nobody = run("0" * 32, "--port-base", "1")
    assert nobody.exit_code == 3 and "cannot be reached" in nobody.output


def test_markup_in_a_name_is_text(jaeger: Callable[..., str]) -> None:
    hostile = json.loads(json.dumps(RECORDED["traces"][BATCH]))
    hostile["spans"][0]["operationName"] = "[bold]x[/] [link=http://evil.example]y[/link]\x1b[31m"
    result = run(BATCH, "--jaeger-url", jaeger(lambda *_: hostile))
    assert "[bold]x[/]" in result.output and "\x1b[31m" not in result.output
