"""Commands with marked slots: what is read, how a mistake is named, tags by offsets, scores."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.intents.vocabulary import train_vocabulary
from models.slots.annotations import (
    NOT_TAGGED,
    Command,
    EntityScore,
    Span,
    parse,
    read_commands,
    score,
    score_by_type,
    tag_names,
    to_tags,
)
from models.slots.corpus import read_set
from services.common.slots import slots_of
from services.common.tags import read_row

SLOTS = Path(__file__).resolve().parents[4] / "shared/data/intents/hwu64_kfold1_slots"
HEADER = "text\tintent\tannotated\n"


def test_brackets_become_spans_of_the_plain_text() -> None:
    assert parse("dim the [device_type : lights] in the [ place : living room ]") == (
        "dim the lights in the living room",
        (Span("device_type", 8, 14), Span("place", 22, 33)),
    )
    assert parse("nothing here") == ("nothing here", ())
    assert parse("[time : 7:30 am]") == ("7:30 am", (Span("time", 0, 7),))


@pytest.mark.parametrize(
    ("annotated", "what"),
    [
        ("turn on the [device : light", "not closed"),
        ("turn on [device : the [colour : red] light]", "slot within a slot"),
        ("turn on the device : light]", "not opened"),
        ("turn [device : light] on]", "not opened"),
        ("turn on the [device : ]", "lacks a type or a value"),
        ("turn on the [ : light]", "lacks a type or a value"),
        ("turn on the [light]", "lacks a type or a value"),
    ],
)
def test_a_mistake_is_named_with_file_and_line(tmp_path: Path, annotated: str, what: str) -> None:
    file = tmp_path / "train.tsv"
    file.write_text(f"{HEADER}hello\tgreet\thello\nturn on the light\ton\t{annotated}\n")
    with pytest.raises(ValueError, match=what) as raised:
        read_commands(file)
    assert str(raised.value).startswith(f"{file}:3: ")


def test_text_and_annotation_must_say_the_same(tmp_path: Path) -> None:
    file = tmp_path / "train.tsv"
    file.write_text(f"{HEADER}turn on the light\ton\tturn off the [device : light]\n")
    with pytest.raises(ValueError, match="make them equal") as raised:
        read_commands(file)
    assert str(raised.value).startswith(f"{file}:2: ")
    file.write_text(f"{HEADER}turn on the light\ton\tturn on the [device : light]\n")
    assert read_commands(file) == [Command("turn on the light", "on", (Span("device", 12, 17),))]


def test_a_file_without_annotations_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "train.tsv"
    file.write_text("text\tintent\nhello\tgreet\n")
    with pytest.raises(ValueError, match="lacks the column 'annotated'"):
        read_commands(file)
    file.write_text(f"{HEADER}hello\tgreet\n")
    with pytest.raises(ValueError, match=r"train\.tsv:2: expected 3 fields"):
        read_commands(file)


@pytest.mark.parametrize(
    "text",
    [
        "wake me at seven thirty tomorrow",
        "WAKE me at Seven THIRTY tomorrow",
        "wake me at 7:30 tomorrow",
        "wake İİ at séven thirty tomorrow",
        "wake me at se\u0301ven thirty tomorrow",
    ],
    ids=["plain", "capitals", "digits", "grows-in-lower-case", "composed"],
)
def test_offsets_survive_the_normaliser(text: str) -> None:
    tokenizer = train_vocabulary(["wake me at seven thirty tomorrow", "set an alarm"] * 3, 120)
    start = text.index("at ") + 3
    spans = (Span("time", start, text.index(" tomorrow")), Span("date", text.index("tomorrow"), len(text)))
    tags = tag_names(["time", "date"])
    encoding = tokenizer.encode(text)
    row = to_tags(spans, encoding.offsets, tags)
    assert len(row) > len(text.split()) - 1 and row.count(tags.index("B-time")) == 1
    seen = [at for at, tag in enumerate(row) if tag != NOT_TAGGED]
    found = slots_of(read_row([tags[row[at]] for at in seen], seen), encoding.offsets, text)
    assert [Span(slot.type, slot.start, slot.end) for slot in found] == list(spans)


def test_tokens_without_characters_teach_nothing() -> None:
    tags = tag_names(["a"])
    assert to_tags((Span("a", 0, 2),), [(0, 0), (0, 1), (1, 2), (3, 4), (0, 0)], tags) == [
        NOT_TAGGED, tags.index("B-a"), tags.index("I-a"), tags.index("O"), NOT_TAGGED,
    ]  # fmt: skip
    with pytest.raises(ValueError, match="'b' is none that training saw"):
        to_tags((Span("b", 0, 2),), [(0, 2)], tags)


def test_a_slot_counts_only_when_type_and_both_ends_are_right() -> None:
    """The example of seqeval's README, O O O B-MISC I-MISC I-MISC O and B-PER I-PER O; MISC one early: F1 0.50."""
    wanted = [[Span("MISC", 3, 6)], [Span("PER", 0, 2)]]
    found = [[Span("MISC", 2, 6)], [Span("PER", 0, 2)]]
    assert score(wanted, found) == EntityScore(right=1, found=2, wanted=2)
    assert score(wanted, found).f1 == 0.5
    assert score_by_type(wanted, found)["MISC"].f1 == 0.0
    assert score(wanted, [[Span("LOC", 3, 6)], [Span("PER", 0, 2)]]).f1 == 0.5
    one_missing = score(wanted, [[], [Span("PER", 0, 2)]])
    assert (one_missing.precision, one_missing.recall) == (1.0, 0.5)
    assert one_missing.f1 == pytest.approx(2 / 3)
    assert score([[], []], [[], []]).f1 == 0.0


def write_set(folder: Path, train: str, test: str) -> Path:
    for name, rows in (("train", train), ("test", test)):
        (folder / f"{name}.tsv").write_text(HEADER + rows)
    return folder


def test_a_set_that_cannot_be_learnt_is_refused(tmp_path: Path) -> None:
    lamp, hello = "a lamp\ton\ta [thing : lamp]\n", "hello\tgreet\thello\n"
    assert read_set(write_set(tmp_path, lamp + hello, lamp)).names.tags == ["O", "B-thing", "I-thing"]
    with pytest.raises(ValueError, match="test has the slot type 'place' in 'a lamp'"):
        read_set(write_set(tmp_path, lamp + hello, "a lamp\ton\ta [place : lamp]\n"))
    with pytest.raises(ValueError, match="test has the intent 'off'"):
        read_set(write_set(tmp_path, lamp + hello, "a lamp\toff\ta lamp\n"))
    with pytest.raises(ValueError, match="one intent only"):
        read_set(write_set(tmp_path, lamp, lamp))
    with pytest.raises(ValueError, match="no sentence has a slot"):
        read_set(write_set(tmp_path, hello + "bye\tleave\tbye\n", hello))


def test_the_public_set_is_read_whole() -> None:
    if not SLOTS.exists():
        pytest.skip(f"NOT CHECKED: the public set, because {SLOTS} is not there")
    found = read_set(SLOTS)
    assert (len(found.train) + len(found.valid), len(found.test)) == (9960, 1076)
    assert (len(found.names.labels), len(found.names.tags)) == (64, 109)
    assert not {command.text for command in found.train} & {command.text for command in found.valid}
    assert read_set(SLOTS).valid == found.valid, "the same sentences are held out every time"
