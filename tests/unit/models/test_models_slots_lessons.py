"""What a parser learns from: variations keep their slots right, batches carry a tag for each token, and a teacher's
words fit its pupil's."""

from __future__ import annotations

from random import Random

import numpy as np

from models.intents.vocabulary import train_vocabulary
from models.slots.annotations import NOT_TAGGED, Command, Span, parse, tag_names
from models.slots.lessons import Lessons, values_of, vary
from models.slots.teacher import carried_over
from services.common.tags import read_row


def command(annotated: str, intent: str = "x") -> Command:
    text, spans = parse(annotated)
    return Command(text, intent, spans)


COMMANDS = [
    command("turn on the [device : lamp] in the [place : living room], please"),
    command("olly, wake me at [time : seven thirty]"),
    command("wake me at [time : eleven p.m.]"),
    command("[device : the olly box] off"),
]


def said(one: Command) -> list[tuple[str, str]]:
    return [(kind, one.text[start:end]) for kind, start, end in one.spans]


def test_a_swapped_value_is_another_one_of_its_type() -> None:
    values, random = values_of(COMMANDS), Random(1)
    assert values["time"] == ["seven thirty", "eleven p.m."]
    seen = {value for _ in range(300) for kind, value in said(vary(COMMANDS[0], values, 0.5, random))}
    assert seen == {"lamp", "the olly box", "living room"}
    never = {value for _ in range(300) for kind, value in said(vary(COMMANDS[0], values, 0.0, random))}
    assert never == {"lamp", "living room"}


def test_variations_break_no_slot() -> None:
    values, random = values_of(COMMANDS), Random(2)
    digits = {"seven thirty": "7 30", "eleven p.m.": "11 p.m."}
    allowed = {kind: {*of, *(digits.get(value, value) for value in of)} for kind, of in values.items()}
    texts = set()
    for one in COMMANDS * 200:
        varied = vary(one, values, 0.5, random)
        texts.add(varied.text)
        assert varied.intent == one.intent
        assert [kind for kind, _ in said(varied)] == [kind for kind, _ in said(one)]
        assert all(value in allowed[kind] for kind, value in said(varied)), varied
    assert "turn on the lamp in the living room, please" in texts
    assert any(text.endswith("p.m.") for text in texts) and any(text.endswith("p.m.?") for text in texts)
    assert "wake me at 7 30" in texts and "olly, wake me at seven thirty" in texts
    assert {"the olly box off", "lamp off"} <= texts


def test_a_sentence_of_nothing_but_a_name_stays() -> None:
    random = Random(3)
    assert all(
        vary(Command(text, "x"), {}, 0.5, random).text for text in ("olly", "...", "?") for _ in range(50)
    )


def test_batches_carry_a_tag_for_each_token() -> None:
    names = tag_names(values_of(COMMANDS))
    tokenizer = train_vocabulary([one.text for one in COMMANDS] * 3, 60)
    lessons = Lessons(COMMANDS, ["x"], names, sizes=(4, 40), swap=0.0)
    assert len(lessons) == 4
    found = []
    for batch in lessons.epoch(tokenizer, 2, Random(4)):
        assert batch.ids.shape == batch.tags.shape and not batch.intents.any()
        for ids, tags, length in zip(batch.ids, batch.tags, batch.lengths, strict=True):
            assert (tags[length:] == NOT_TAGGED).all() and (tags[:length] >= 0).all()
            for mark in read_row([names[tag] for tag in tags[:length]], range(length)):
                pieces = [str(tokenizer.id_to_token(int(at))) for at in ids[mark.first : mark.last + 1]]
                found.append((mark.type, "".join(piece.removeprefix("##") for piece in pieces)))
    values = {value for _, value in found}
    assert len(found) == 5 and {"lamp", "livingroom", "theollybox"} < values


def test_an_epoch_repeats_itself_only_by_its_seed() -> None:
    names = tag_names(values_of(COMMANDS))
    tokenizer = train_vocabulary([one.text for one in COMMANDS] * 3, 60)
    lessons = Lessons(COMMANDS * 8, ["x"], names, sizes=(40,), swap=0.5)

    def ids(seed: int) -> list[list[int]]:
        return [row for batch in lessons.epoch(tokenizer, 4, Random(seed)) for row in batch.ids.tolist()]

    assert ids(1) == ids(1)
    assert ids(1) != ids(2)


def test_a_pupil_hears_what_is_said_of_its_own_pieces() -> None:
    tags = tag_names(["a"])
    scores = np.log(np.array([[0.1, 0.7, 0.2], [0.2, 0.3, 0.5]], np.float32))
    heard = np.exp(carried_over(scores, [(0, 4), (4, 6)], [(0, 0), (0, 2), (2, 4), (4, 6), (6, 7)], tags))
    np.testing.assert_allclose(heard[1], [0.1, 0.7, 0.2], atol=1e-6)
    np.testing.assert_allclose(heard[2], [0.1, 0.0, 0.9], atol=1e-5)
    np.testing.assert_allclose(heard[3], [0.2, 0.3, 0.5], atol=1e-6)
    assert (heard[[0, 4]] == 1).all(), "logarithms of 1: nothing was said"


def test_spans_of_one_type_beside_each_other_stay_apart() -> None:
    one = command("cancel [time : four am] [time : ten pm]")
    assert one.spans == (Span("time", 7, 14), Span("time", 15, 21))
    for seed in range(20):
        assert len(vary(one, {}, 0.0, Random(seed)).spans) == 2
