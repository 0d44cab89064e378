"""Several sets at once: what is read, what is held out, whose classes are whose."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.corpus import Classes, Task, hold_out, read_sentences, read_task
from models.intents.utterances import Utterance


def write(path: Path, rows: list[tuple[str, ...]], header: str = "text\tintent") -> None:
    path.write_text(header + "\n" + "".join("\t".join(row) + "\n" for row in rows))


def rows(count: int, *intents: str) -> list[tuple[str, ...]]:
    return [(f"say {intent} {n}", intent) for intent in intents for n in range(count)]


def test_a_set_without_a_validation_part_holds_one_out_the_same_each_time(tmp_path: Path) -> None:
    write(tmp_path / "train.tsv", rows(20, "go", "stop"))
    write(tmp_path / "test.tsv", rows(3, "go"))
    task, again = read_task(tmp_path), read_task(tmp_path)
    assert (len(task.train), len(task.valid), len(task.test)) == (36, 4, 3)
    assert task.valid == again.valid
    assert {item.intent for item in task.valid} == {"go", "stop"}, "of each intent"
    assert not {item.text for item in task.valid} & {item.text for item in task.train}


def test_further_columns_and_sentences_outside_are_read(tmp_path: Path) -> None:
    header = "text\tintent\tdomain"
    write(tmp_path / "train.tsv", [("a", "go", "x"), ("b", "stop", "x")], header)
    write(tmp_path / "val.tsv", [("c", "go", "x")], header)
    write(tmp_path / "test.tsv", [("d", "stop", "x")], header)
    write(tmp_path / "oos_val.tsv", [("e", "oos", "oos")], header)
    task = read_task(tmp_path)
    assert task.valid == [Utterance("c", "go")] and task.labels == ["go", "stop"]
    assert task.outside == {"valid": [Utterance("e", "oos")]}


@pytest.mark.parametrize(
    ("train", "test", "said"),
    [
        (rows(3, "go"), rows(1, "go"), "one intent only"),
        (
            rows(3, "go", "stop"),
            rows(1, "fly"),
            "test has the intent 'fly', which no sentence of train.tsv has",
        ),
    ],
)
def test_what_cannot_be_learnt_is_said(
    tmp_path: Path, train: list[tuple[str, ...]], test: list[tuple[str, ...]], said: str
) -> None:
    write(tmp_path / "train.tsv", train)
    write(tmp_path / "test.tsv", test)
    write(tmp_path / "valid.tsv", train)
    with pytest.raises(ValueError, match=said):
        read_task(tmp_path)


def test_a_missing_column_is_named_with_its_file(tmp_path: Path) -> None:
    write(tmp_path / "train.tsv", [("a", "go")], "sentence\tintent")
    with pytest.raises(ValueError, match=r"train\.tsv:1: the header lacks the column 'text'"):
        read_task(tmp_path)


def test_classes_stand_side_by_side_and_each_task_sees_its_own() -> None:
    one = Task("one", [Utterance("a", "x"), Utterance("b", "y")], [], [], {})
    two = Task("two", [Utterance("c", "x"), Utterance("d", "z"), Utterance("e", "y")], [], [], {})
    classes = Classes([one, two])
    assert classes.names == ["x", "y", "x", "y", "z"]
    assert (classes.slices["one"], classes.slices["two"]) == (slice(0, 2), slice(2, 5))
    assert classes.targets(two, two.train).tolist() == [2, 4, 3]


def test_hold_out_keeps_every_sentence_once() -> None:
    items = [Utterance(f"{n}", "a" if n % 2 else "b") for n in range(100)]
    train, valid = hold_out(items)
    assert len(valid) == 10 and sorted(i.text for i in (*train, *valid)) == sorted(i.text for i in items)


def test_sentences_are_read_one_a_line(tmp_path: Path) -> None:
    file = tmp_path / "said.txt"
    file.write_text("\ufeffturn it on\n\n  and off  \r\nвключи свет", encoding="utf-8")
    assert read_sentences(file) == ["turn it on", "and off", "включи свет"]


@pytest.mark.parametrize(
    ("content", "said"), [(b"\n \n", "holds no sentence"), (b"\xff\xfe", "is not UTF-8")]
)
def test_a_file_without_sentences_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "said.txt"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=f"said.txt: {said}"):
        read_sentences(file)
