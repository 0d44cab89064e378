"""Help: every verb says what it does, what it takes and what its exit codes mean."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from foremesh.cli import GROUPS, VERBS, application

runner = CliRunner()
FORECAST = [["forecast", verb] for verb in ("backtest", "train")]
LAB = [["lab", verb] for verb in ("run", "report", "explain", "validate")]
EVERY = [*([verb] for verb in VERBS), *FORECAST, ["bench", "mesh"], ["bench", "inference"], *LAB]


def help_of(*words: str) -> str:
    result = runner.invoke(application(), [*words, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_a_verb_says_what_its_exit_codes_mean(words: list[str]) -> None:
    text = help_of(*words)
    assert "Exit codes: 0 " in text
    assert "Usage: " in text


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_every_option_and_argument_is_explained(words: list[str]) -> None:
    command: Any = get_command(application())
    for word in words:
        command = command.commands[word]
    unexplained = [p.name for p in command.params if not getattr(p, "help", None)]
    assert unexplained == []


def test_the_command_lists_its_verbs() -> None:
    text = help_of()
    assert all(verb in text for verb in (*VERBS, *GROUPS))


def test_a_verb_is_one_file() -> None:
    folder = Path(__file__).resolve().parents[3] / "foremesh"
    assert {f"{verb}.py" for verb in (*VERBS, *GROUPS)} <= {f.name for f in folder.iterdir()}


def test_an_unknown_verb_is_bad_usage(foremesh: Any) -> None:
    done = foremesh("upp")
    assert done.returncode == 2
    assert "upp" in done.stderr


def test_help_does_not_load_what_only_one_verb_needs(foremesh: Any) -> None:
    """NumPy and the ONNX runtime take longer to import than all the rest together."""
    script = (
        "import sys; from foremesh.cli import application; application(); "
        "sys.exit(','.join({'numpy', 'numba', 'onnxruntime', 'plotly'} & set(sys.modules)))"
    )
    import subprocess  # noqa: PLC0415

    repo = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=repo, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr.strip() == ""


def test_the_application_is_a_typer() -> None:
    assert isinstance(application(), typer.Typer)
