"""`foremesh models train`: what it refuses, in one line and before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from foremesh.models import app

SENTENCES = "text\tintent\nhello there\tgreet\ngood bye\tleave\n"


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["train", *arguments])
    return done.exit_code, done.output


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    folder.mkdir()
    for part in ("train", "valid", "test"):
        (folder / f"{part}.tsv").write_text(SENTENCES)
    return folder


def test_help_says_what_it_takes_and_what_comes_out() -> None:
    code, said = run("--help")
    assert code == 0
    for word in ("train.tsv", "base-4bit", "CATALOG/MODEL", "Exit codes", "--seed"):
        assert word in said


def test_an_unknown_tier_names_those_there_are(data: Path, tmp_path: Path) -> None:
    code, said = run("--data", str(data), "--tier", "tyni", "--out", str(tmp_path / "catalog/own"))
    assert code == 2
    assert "'tyni' is no tier; there are base, base-4bit, mini, tiny" in said
    assert not (tmp_path / "catalog").exists()


def test_a_file_that_is_wrong_is_named_with_its_line(data: Path, tmp_path: Path) -> None:
    (data / "train.tsv").write_text(SENTENCES + "no tab here\n")
    code, said = run("--data", str(data), "--out", str(tmp_path / "catalog/own"))
    assert code == 2
    assert "train.tsv:4:" in said and "Traceback" not in said
    assert not (tmp_path / "catalog").exists()


def test_a_start_that_is_no_entry_is_named(data: Path, tmp_path: Path) -> None:
    base = str(tmp_path / "none" / "intent" / "base")
    code, said = run("--data", str(data), "--base", base, "--out", str(tmp_path / "catalog/own"))
    assert code == 2
    assert "no such folder" in said and not (tmp_path / "catalog").exists()


def test_too_few_sentences_are_refused(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("jax", reason="training needs the lock `train`", exc_type=ImportError)
    code, said = run("--data", str(data), "--out", str(tmp_path / "catalog/own"))
    assert code == 2
    assert "2 sentences are too few to train on" in said
    assert not (tmp_path / "catalog").exists()
