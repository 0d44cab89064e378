"""Sentences to train on: how they are varied, and how a mistake in a file is named by reader and command."""

from __future__ import annotations

import itertools
from pathlib import Path
from random import Random
from typing import Any

import pytest

from models.intents.utterances import Utterance, read_utterances, vary

SAYINGS = {
    "light_on": ("turn on", "switch on", "light up", ("the kitchen", "the hall", "my", "every"), "lamp"),
    "music_play": ("play", "put on", "I want", ("some", "a bit of", "loud", "soft"), "jazz"),
    "weather_ask": ("will it", "does it", "could it", ("really", "still", "soon", "also"), "rain"),
}


def sentences(seed: int, count: int) -> list[Utterance]:
    """`count` sentences of three intents, each from a pattern of its own."""
    made = []
    random = Random(seed)
    for number, intent in zip(range(count), itertools.cycle(SAYINGS), strict=False):
        *heads, middles, tail = SAYINGS[intent]
        words = (random.choice(heads), random.choice(middles), tail, random.choice(("", "now", "today")))
        made.append(Utterance(" ".join(str(w) for w in words).strip() + f" {number % 7}", intent))
    return made


def parts() -> dict[str, list[Utterance]]:
    return {"train": sentences(1, 200), "valid": sentences(2, 40), "test": sentences(3, 40)}


def test_variations_keep_what_was_said() -> None:
    random = Random(1)
    varied = {vary("Olly, wake me up at seven", random) for _ in range(200)}
    assert len(varied) > 4
    assert all("wake me up at" in text for text in varied)
    assert {"seven", "7"} == {word for text in varied for word in ("seven", "7") if word in text}
    assert all(vary(text, random).strip() for text in ("olly", "...", "?", "s1") for _ in range(50))


def write_parts(folder: Path, **instead: bytes) -> Path:
    for name, items in parts().items():
        rows = "".join(f"{item.text}\t{item.intent}\n" for item in items)
        (folder / f"{name}.tsv").write_bytes(instead.get(name, f"text\tintent\n{rows}".encode()))
    return folder


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b"sentence,label\nhello,greet\n", "valid.tsv:1:"),
        (b"", "valid.tsv:1:"),
        (b"text\tintent\n", "valid.tsv:2:"),
        (b"text\tintent\nhello\tgreet\nno tab here\n", "valid.tsv:3:"),
        (b"text\tintent\nhello\tgreet\n\t\n", "valid.tsv:3:"),
        (b"text\tintent\nhello\tgreet\nbye\tleave\textra\n", "valid.tsv:3:"),
        (b"text\tintent\nhello\tgreet\n\xff\xfe\tgreet\n", "valid.tsv:3:"),
        (b"text\tintent\n" + b"x" * 200_000 + b"\tgreet\n", "valid.tsv:2:"),
    ],
    ids=["header", "empty", "no-rows", "no-tab", "blank", "three-columns", "not-utf8", "huge-field"],
)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, content: bytes, where: str) -> None:
    write_parts(tmp_path, valid=content)
    with pytest.raises(ValueError) as raised:
        read_utterances(tmp_path / "valid.tsv")
    assert str(raised.value).startswith(str(tmp_path / where))


def test_a_byte_order_mark_and_quotes_do_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "own.tsv"
    file.write_bytes('\ufefftext\tintent\r\nplay "jazz\tmusic_play\r\n'.encode())
    assert read_utterances(file) == [Utterance('play "jazz', "music_play")]


def test_the_command_names_file_and_line_and_exits_with_2(tmp_path: Path, run_training: Any) -> None:
    done = run_training(write_parts(tmp_path, test=b"text\tintent\nhello\n"), tmp_path / "m/t")
    assert done.returncode == 2
    assert f"{tmp_path / 'test.tsv'}:2:" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "m").exists()


def test_the_command_names_a_file_that_is_not_there(tmp_path: Path, run_training: Any) -> None:
    write_parts(tmp_path)
    (tmp_path / "train.tsv").unlink()
    done = run_training(tmp_path, tmp_path / "m/t")
    assert done.returncode == 2
    assert str(tmp_path / "train.tsv") in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_names_an_intent_that_training_never_saw(tmp_path: Path, run_training: Any) -> None:
    rows = b"text\tintent\nhello there\tgreet\n"
    done = run_training(write_parts(tmp_path, test=rows), tmp_path / "m/t")
    assert done.returncode == 2
    assert "'greet'" in done.stderr and str(tmp_path) in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "m").exists()


def test_the_command_refuses_one_class_alone(tmp_path: Path, run_training: Any) -> None:
    rows = b"text\tintent\n" + b"hello there\tgreet\n" * 200
    done = run_training(write_parts(tmp_path, train=rows, valid=rows, test=rows), tmp_path / "m/t")
    assert done.returncode == 2
    assert f"{tmp_path / 'train.tsv'}: one intent only" in done.stderr
    assert not (tmp_path / "m").exists()


def test_the_command_names_the_tiers_there_are(tmp_path: Path, run_training: Any) -> None:
    done = run_training(tmp_path, tmp_path / "m", "--tier", "tiny,huge")
    assert done.returncode == 2
    assert "'huge' is no tier; there are base, base-4bit, mini, tiny" in done.stderr


def test_the_command_refuses_zero_epochs(tmp_path: Path, run_training: Any) -> None:
    done = run_training(tmp_path, tmp_path / "m/t", "--epochs", "0")
    assert done.returncode == 2
    assert "--epochs" in done.stderr
