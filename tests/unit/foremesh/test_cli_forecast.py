"""`foremesh forecast`: backtests and trainings as somebody types them, and what may go wrong."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.unit.foremesh.conftest import Done

Foremesh = Callable[..., Done]


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    wave = 60 * (1 + 0.5 * np.sin(2 * np.pi * np.arange(400) / 50))
    counts = np.random.default_rng(0).poisson(wave)
    path = tmp_path / "wave.csv"
    path.write_text("timestamp,requests\n" + "".join(f"{60 * i},{c}\n" for i, c in enumerate(counts)))
    return path


def test_a_backtest_is_a_table_for_people_and_a_file_for_scripts(
    foremesh: Foremesh, trace: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    done = foremesh(
        "forecast", "backtest", "--trace", str(trace), "--horizon", "30s,1m,5m,10m", "--json", str(out)
    )
    assert done.returncode == 0, done.stderr
    table = json.loads(out.read_text())
    assert (table["trace"], table["step_s"]) == ("wave", 60)
    assert {row["horizon_s"] for row in table["rows"]} == {60, 300, 600}
    assert {"champion", "lstm", "persistence", "ar", "ets"} <= {row["model"] for row in table["rows"]}
    for row in table["rows"]:
        assert {"horizon_s", "model", "mae_ratio", "pinball_ratio", "coverage_q95"} <= set(row)
    assert "30 s is skipped" in done.stderr
    assert "champion" in done.stdout and "10 min" in done.stdout


def test_a_backtest_is_drawn_when_asked(foremesh: Foremesh, trace: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.svg"
    done = foremesh("forecast", "backtest", "--trace", str(trace), "--horizon", "1m", "--picture", str(out))
    assert done.returncode == 0, done.stderr
    said = [one.text or "" for one in ET.fromstring(out.read_text()).iter("{http://www.w3.org/2000/svg}text")]
    assert "wave: steps of 1 min" in said
    assert any(text.startswith("wave: ") and "of requests per second" in text for text in said)


def test_json_goes_to_the_screen_when_asked(foremesh: Foremesh, trace: Path) -> None:
    done = foremesh("forecast", "backtest", "--trace", str(trace), "--horizon", "2m", "--json", "-")
    assert {row["horizon_s"] for row in json.loads(done.stdout)["rows"]} == {120}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--horizon", "soon"], "'soon' is no time ahead"),
        (["--horizon", "1m,-5m"], "'-5m' is no time ahead"),
        (["--horizon", "10s"], "no horizon can be judged"),
        (["--last", "0"], "--last"),
        (["--json", "/no/such/folder/out.json"], "--json /no/such/folder/out.json: there is no folder"),
        (["--json", "/"], "--json /"),
        (["--horizon", "0"], "'0' is no time ahead"),
        (["--last", "nan"], "--last"),
        (["--picture", "/no/such/folder/out.svg"], "--picture /no/such/folder/out.svg: there is no folder"),
        (["--model", "absent.onnx"], "absent.onnx"),
    ],
)
def test_options_that_make_no_sense_are_told_and_end_with_2(
    words: list[str], says: str, foremesh: Foremesh, trace: Path
) -> None:
    done = foremesh("forecast", "backtest", "--trace", str(trace), *words)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "wave.csv: cannot be read"),
        ("", "wave.csv:1"),
        ("timestamp,requests\n0,1\n", "two at least"),
        ("timestamp,requests\n0,1\n60,-2\n", "wave.csv:3"),
        ("timestamp,requests\n0,1\n60,many\n", "wave.csv:3"),
        ("timestamp,requests\n0,1\n0,1\n", "sort the file"),
        ("timestamp,requests\n60,1\n0,1\n", "sort the file"),
    ],
)
@pytest.mark.parametrize("verb", ["backtest", "train"])
def test_a_trace_that_cannot_be_used_names_file_line_and_remedy(
    verb: str, text: str | None, says: str, foremesh: Foremesh, trace: Path, tmp_path: Path
) -> None:
    if verb == "train":
        pytest.importorskip("jax")
    trace.unlink()
    if text is not None:
        trace.write_text(text)
    out = ["--out", str(tmp_path / "mine.onnx")] if verb == "train" else []
    done = foremesh("forecast", verb, "--trace", str(trace), *out)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_trace_that_never_changes_has_nothing_to_judge_and_says_so(foremesh: Foremesh, trace: Path) -> None:
    trace.write_text("timestamp,requests\n" + "".join(f"{60 * i},7\n" for i in range(100)))
    done = foremesh("forecast", "backtest", "--trace", str(trace), "--json", "-")
    assert done.returncode == 2
    assert "the last value is never wrong there" in done.stderr
    assert done.stdout == ""


def test_gaps_are_judged_around(foremesh: Foremesh, trace: Path) -> None:
    lines = trace.read_text().splitlines(keepends=True)
    trace.write_text("".join(lines[:340] + lines[360:]))
    done = foremesh("forecast", "backtest", "--trace", str(trace), "--horizon", "1m", "--json", "-")
    assert done.returncode == 0, done.stderr
    assert {row["origins"] for row in json.loads(done.stdout)["rows"]} == {79}


def test_a_network_is_named_as_one(foremesh: Foremesh, trace: Path, tmp_path: Path) -> None:
    pytest.importorskip("jax")
    done = foremesh("forecast", "train", "--trace", str(trace), "--out", str(tmp_path / "mine"))
    assert done.returncode == 2
    assert "does not end in .onnx" in done.stderr
