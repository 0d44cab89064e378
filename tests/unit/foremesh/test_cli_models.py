"""`foremesh models`: list, show and eval as somebody types them, with their mistakes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from deploy.local.settings import REPO
from foremesh.cli import application

OWN = REPO / "models/data/utterances.tsv"
CARD = json.loads((REPO / "models/catalog/intent/tiny/card.json").read_text())
FAILED, USAGE = 1, 2


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The entry intent/tiny in a catalog of its own."""
    return Path(shutil.copytree(REPO / "models/catalog/intent/tiny", tmp_path / "catalog/intent/tiny"))


def one_line(done: Any, code: int) -> str:
    """The single line on stderr of a command that ended with `code` and printed nothing."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("foremesh: ")
    return str(line.removeprefix("foremesh: "))


@pytest.mark.parametrize("verb", ["list", "show", "eval", "report"])
def test_help_explains_options_and_exit_codes(verb: str) -> None:
    command: Any = get_command(application())
    command = command.commands["models"].commands[verb]
    assert "Exit codes: 0 " in command.help
    assert [p.name for p in command.params if not getattr(p, "help", None)] == []


def test_list_shows_what_cards_say(foremesh: Any) -> None:
    done = foremesh("models", "list")
    assert done.returncode == 0, done.stderr
    head, *rows = (line.split() for line in done.stdout.splitlines())
    (tiny,) = (row for row in rows if row[:2] == ["intent", "tiny"])
    assert head[:3] == ["model", "tier", "accuracy"]
    assert f"{CARD['accuracy']['test']:.2%}" in tiny
    listed = json.loads(foremesh("models", "list", "--json").stdout)
    (told,) = (row for row in listed if (row["model"], row["tier"]) == ("intent", "tiny"))
    assert (told["accuracy"], told["size_mb"], told["p50_ms"]) == (
        CARD["accuracy"]["test"],
        CARD["size_mb"],
        CARD["p50_ms"],
    )
    assert (told["licence"], told["data"]) == (CARD["licence"], CARD["data"]["name"])


def test_list_takes_a_card_that_says_little(foremesh: Any, copy: Path) -> None:
    bare = copy.parent / "bare"
    bare.mkdir()
    (bare / "card.json").write_text(
        json.dumps({"accuracy": "good", "data": "none: random weights", "variants": []})
    )
    done = foremesh("models", "list", "--catalog", str(copy.parent.parent))
    assert done.returncode == 0, done.stderr
    (row,) = (line for line in done.stdout.splitlines() if " bare " in line)
    assert row.split() == ["intent", "bare", "-", "-", "-", "-", "-", "-", "none:", "random", "weights"]
    listed = json.loads(foremesh("models", "list", "--json", FOREMESH_CATALOG=str(copy.parent.parent)).stdout)
    assert [row["tier"] for row in listed] == ["bare", "tiny"]
    assert listed[0]["accuracy"] is None


def test_list_of_no_catalog_and_of_an_empty_one(foremesh: Any, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    assert f"{nowhere}: no such folder" in one_line(
        foremesh("models", "list", "--catalog", str(nowhere)), USAGE
    )
    done = foremesh("models", "list", "--catalog", str(tmp_path))
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}: the catalog is empty\n")
    done = foremesh("models", "show", "tiny", "--catalog", str(tmp_path))
    assert "(it is empty)" in one_line(done, USAGE)


def test_show_is_the_card_for_people_and_for_programs(foremesh: Any) -> None:
    done = foremesh("models", "show", "tiny")
    assert done.returncode == 0, done.stderr
    assert "intent/tiny, version" in done.stdout
    assert "weakest intents" in done.stdout
    assert "**" not in done.stdout, "Markdown is rendered"
    done = foremesh("models", "show", "tiny", "--json")
    assert json.loads(done.stdout) == CARD


def test_show_of_an_entry_without_a_page(foremesh: Any, copy: Path) -> None:
    (copy / "README.md").unlink()
    done = foremesh("models", "show", "tiny", "--catalog", str(copy.parent.parent))
    assert str(copy / "README.md") in one_line(done, FAILED)
    (copy / "card.json").write_text("{")
    done = foremesh("models", "show", "tiny", "--catalog", str(copy.parent.parent))
    assert f"{copy / 'card.json'} is not a model card" in one_line(done, FAILED)


@pytest.mark.parametrize(
    "words", [("show", "tyni"), ("eval", "--tier", "tyni", "--data", str(OWN))], ids=lambda words: words[0]
)
def test_an_unknown_tier_or_model_is_named_with_the_known_ones(
    foremesh: Any, copy: Path, words: tuple[str, ...]
) -> None:
    done = foremesh("models", *words, "--catalog", str(copy.parent.parent))
    assert (
        one_line(done, USAGE) == "model tier 'tyni' is not in the catalog (tiny); see `foremesh models list`"
    )
    done = foremesh("models", *words, "--model", "intnet", "--catalog", str(copy.parent.parent))
    assert (
        one_line(done, USAGE) == "model 'intnet' is not in the catalog (intent); see `foremesh models list`"
    )


def test_eval_measures_prints_and_writes(foremesh: Any, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    out.write_text("old")
    done = foremesh("models", "eval", "--tier", "tiny", "--data", str(OWN), "--json", str(out))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    result = json.loads(out.read_text())
    assert result["accuracy"] == CARD["accuracy"]["own_utterances"]
    assert f"{result['accuracy']:.2%}" in done.stdout
    assert "FP32" not in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_eval_says_what_it_cut_and_what_it_could_not_know(foremesh: Any, tmp_path: Path) -> None:
    said = tmp_path / "said.tsv"
    said.write_text(
        "intent\ttext\tby\n" + f"play_music\t{'play jazz ' * 99}\tme\nsing_along\tsing with me\tme\n"
    )
    words = ("models", "eval", "--tier", "tiny", "--data", str(said))
    line = one_line(foremesh(*words), USAGE)
    assert line.startswith(f"{said}: 1 of 2 sentences carry labels that intent/tiny does not know")
    assert "'sing_along' (1)" in line
    assert "--allow-unknown" in line
    done = foremesh(*words, "--allow-unknown")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [
        f"note: 1 of 2 sentences are longer than {CARD['max_tokens']} tokens and were cut there, as the service does",
        "note: 1 of 2 sentences carry a label unknown to the model: wrong",
    ]
    assert "50.00%" in done.stdout


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b"text,intent\nhello,greet\n", ":1: the header lacks the column 'text'"),
        (b"text\tlabel\nhello\tgreet\n", ":1: the header lacks the column 'intent'"),
        (b"text\tintent\nhello\tgeneral_quirky\nno tab here\n", ":3: expected 2 fields"),
        (b"text\tintent\n", ":2: no sentence follows the header"),
        (b"", ":1: the header lacks the column"),
        (b"text\tintent\n\xff\tgreet\n", ":2: not UTF-8"),
        (None, ": No such file or directory"),
    ],
    ids=["comma", "header", "no-tab", "no-rows", "empty", "not-utf8", "missing"],
)
def test_bad_sentences_are_named_with_their_line(
    foremesh: Any, tmp_path: Path, content: bytes | None, where: str
) -> None:
    said = tmp_path / "said.tsv"
    if content is not None:
        said.write_bytes(content)
    done = foremesh("models", "eval", "--tier", "tiny", "--data", str(said))
    assert one_line(done, USAGE).startswith(f"{said}{where}")


def test_a_result_that_could_not_be_written_is_told_before_measuring(foremesh: Any, tmp_path: Path) -> None:
    words = ("models", "eval", "--tier", "tiny", "--data", str(OWN), "--json")
    assert "there is no folder" in one_line(foremesh(*words, str(tmp_path / "no/where.json")), USAGE)
    for taken in (str(tmp_path), "/dev/null"):
        assert "is no plain file" in one_line(foremesh(*words, taken), USAGE)
    assert Path("/dev/null").is_char_device()


def test_a_tampered_artefact_is_not_measured(foremesh: Any, copy: Path) -> None:
    with (copy / "model.onnx").open("ab") as file:
        file.write(b"\0")
    done = foremesh(
        "models", "eval", "--tier", "tiny", "--data", str(OWN), "--catalog", str(copy.parent.parent)
    )
    line = one_line(done, FAILED)
    assert str(copy / "model.onnx") in line
    assert CARD["sha256"]["model.onnx"] in line
    assert "restore the file" in line


def test_report_writes_the_study_as_one_page(foremesh: Any, tmp_path: Path) -> None:
    out, study = tmp_path / "report.html", tmp_path / "study.json"
    study.write_text(json.dumps([{"method": "qat", "size_mb": 1, "p50_ms": 1, "accuracy": {"hwu64": 0.9}}]))
    out.write_text("old")
    done = foremesh("models", "report", "--out", str(out), "--study", str(study))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{out}: ")
    page = out.read_text()
    assert page.startswith("<!doctype html>")
    assert f"{CARD['heads']['hwu64']['test'] if 'heads' in CARD else CARD['accuracy']['test']:.2%}" in page
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "study.json"]


def test_report_says_that_there_is_no_study(foremesh: Any, tmp_path: Path) -> None:
    out, study = tmp_path / "report.html", tmp_path / "no.json"
    done = foremesh("models", "report", "--out", str(out), "--study", str(study))
    assert done.returncode == 0
    assert done.stderr == f"note: {study} is not there: the page says that no study was made\n"
    assert f"{study} is not there" in out.read_text()


def test_report_as_json_is_what_the_page_shows(foremesh: Any, tmp_path: Path) -> None:
    study = tmp_path / "study.json"
    study.write_text("[]")
    done = foremesh("models", "report", "--json", "--study", str(study))
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    (tiny,) = (entry for entry in told["entries"] if entry["name"] == "intent/tiny")
    assert (tiny["size_mb"], tiny["p50_ms"]) == (CARD["size_mb"], CARD["p50_ms"])
    assert tiny["scores"][0]["test"] == CARD["accuracy"]["test"]
    assert told["study"] == []
    assert {row["ours"] for row in told["article"]} == {None}
    assert [path.name for path in tmp_path.iterdir()] == ["study.json"]


def test_a_report_that_cannot_be_made_leaves_the_old_one(foremesh: Any, copy: Path, tmp_path: Path) -> None:
    out, study = tmp_path / "report.html", tmp_path / "study.json"
    out.write_text("old")
    study.write_text('[{"method": "qat", "size_mb": 0, "p50_ms": 1, "accuracy": {}}]')
    words = ("models", "report", "--out", str(out), "--study", str(study))
    line = one_line(foremesh(*words), USAGE)
    assert line == f"{study}: row 1 (qat): size_mb must be a number above 0, not 0"
    study.write_text("[]")
    (copy / "card.json").write_text("{")
    line = one_line(foremesh(*words, "--catalog", str(copy.parent.parent)), FAILED)
    assert f"{copy / 'card.json'} is not a model card" in line
    assert out.read_text() == "old"


def test_report_needs_a_place_to_go(foremesh: Any, tmp_path: Path) -> None:
    assert "--out FILE.html" in one_line(foremesh("models", "report"), USAGE)
    nowhere = str(tmp_path / "no/report.html")
    assert "--out" in (line := one_line(foremesh("models", "report", "--out", nowhere), USAGE))
    assert "there is no folder" in line
    assert "is no plain file" in one_line(foremesh("models", "report", "--out", str(tmp_path)), USAGE)
    nowhere = str(tmp_path / "nowhere")
    words = ("models", "report", "--json", "--catalog", nowhere)
    assert f"{nowhere}: no such folder" in one_line(foremesh(*words), USAGE)
