"""Sentences for a student: rebuilt of what people said, never empty, the same at every call."""

from __future__ import annotations

from collections import Counter
from random import Random

import numpy as np

from models import transfer
from models.intents.vocabulary import ALPHABET, PAD_ID, UNKNOWN_ID, part_of_vocabulary, train_vocabulary
from models.transfer import common, neighbours, pool, rebuild

WORDS = ["lamp", "light", "rain", "snow", "jazz"]
TABLE = np.array([[1, 0, 0], [0.9, 0.1, 0], [0, 1, 0], [0, 0.9, 0.2], [0, 0, 1]], np.float32)
TEXTS = ["turn on the lamp in the hall", "will it rain today or snow", "play some jazz for me please"]


def test_neighbours_are_the_most_alike_and_never_the_word_itself() -> None:
    near = neighbours(WORDS, TABLE, count=1)
    assert near == {
        "lamp": ["light"],
        "light": ["lamp"],
        "rain": ["snow"],
        "snow": ["rain"],
        "jazz": ["snow"],
    }


def test_length_does_not_make_a_neighbour() -> None:
    table = TABLE.copy()
    table[4] *= 100
    assert neighbours(WORDS, table, count=1)["lamp"] == ["light"]


def test_words_are_replaced_by_their_neighbours_only() -> None:
    near = neighbours(WORDS, TABLE, count=1)
    said = {word for text in TEXTS for word in text.split()}
    found = {word for seed in range(200) for word in rebuild(TEXTS[0], TEXTS[:1], near, Random(seed)).split()}
    assert "light" in found and found - said == {"light"}


def test_a_rebuilt_sentence_is_never_empty_and_seldom_the_old_one() -> None:
    near = neighbours(WORDS, TABLE, count=1)
    rebuilt = [rebuild(text, TEXTS, near, Random(seed)) for seed in range(300) for text in (*TEXTS, "stop")]
    assert all(text.strip() for text in rebuilt)
    long = [text for at, text in enumerate(rebuilt) if at % 4 != 3]
    assert sum(text in TEXTS for text in long) < 0.6 * len(long)


def test_the_pool_is_the_same_at_every_call_and_another_with_another_seed() -> None:
    near = neighbours(WORDS, TABLE, count=1)
    assert pool(TEXTS, near, 5) == pool(TEXTS, near, 5) != pool(TEXTS, near, 5, seed=1)
    assert [len(row) for row in pool(TEXTS, near, 5)] == [5, 5, 5]


def test_common_words_are_whole_words_in_the_order_of_the_vocabulary() -> None:
    vocabulary = {"[PAD]": 0, "a": 1, "##ing": 2, "light": 5, "lamp": 4, "7": 6, "naïve": 7, "jazz": 8}
    assert common(vocabulary, 2) == ["lamp", "light"]
    assert common(vocabulary, 9) == ["lamp", "light", "jazz"]


def test_a_part_of_a_vocabulary_spells_what_it_left_out() -> None:
    larger = train_vocabulary([*TEXTS, "lamplight" * 2] * 3, 400).get_vocab()
    for letter in ALPHABET:
        larger.setdefault(f"##{letter}", len(larger))
    part = part_of_vocabulary(larger, TEXTS, 130, rebuilt=["snowlamp"])
    assert part.get_vocab_size() <= 130
    assert (part.token_to_id("[PAD]"), part.token_to_id("[UNK]")) == (PAD_ID, UNKNOWN_ID)
    assert set(part.get_vocab()) <= set(larger)
    for text in (*TEXTS, "zebra 2009", "Lamp's"):
        ids = part.encode(text).ids
        assert ids and UNKNOWN_ID not in ids, text
    assert part.encode("灯").ids == [UNKNOWN_ID]


def test_unlabelled_sentences_stand_beside_and_take_turns() -> None:
    rows = [[f"row {number}"] for number in range(20)]
    found = transfer.beside(rows, ["a", "b", "c", "d", "e"])
    assert found == transfer.beside(rows, ["a", "b", "c", "d", "e"])
    assert all(
        row[:1] == old and len(row) == 1 + transfer.BESIDE for row, old in zip(found, rows, strict=True)
    )
    counts = Counter(text for row in found for text in row[1:])
    assert counts == dict.fromkeys("abcde", 12), "each as often as the others"
    assert transfer.beside(rows, ["one"])[0] == ["row 0", "one", "one", "one"]
