"""Whatever is said becomes ids: no text breaks the tokenizer, and what looks the same is the same."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from tokenizers import Tokenizer

PAD_ID, UNKNOWN_ID = 0, 1


@pytest.fixture
def tokenizer(tiny: Path) -> Tokenizer:
    return Tokenizer.from_file(str(tiny / "tokenizer.json"))


@pytest.mark.parametrize(
    "text",
    [
        "\x00",
        "turn\x00on",
        "\ufeffturn on",
        "\u200b",
        "💡🔥",
        "أطفئ الضوء",
        "打开厨房的灯",
        "\u202elight",
        "e\u0301teins la lumie\u0300re",
        "“turn on the light”",
        "a" * 2000,
        "turn on the light " * 111,
        "灯" * 2000,
        "!" * 2000,
    ],
)
def test_any_text_becomes_ids_that_the_model_knows(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text).ids
    assert ids, "a text that is not blank must give a token"
    assert PAD_ID not in ids, "[PAD] is not a word"
    assert max(ids) < tokenizer.get_vocab_size()
    assert len(ids) <= len(text)


def test_text_never_stands_for_padding(tokenizer: Tokenizer) -> None:
    """Somebody who types the names of the special tokens must not get their ids for free."""
    assert PAD_ID not in tokenizer.encode("pad").ids
    assert tokenizer.encode("turn on").ids == tokenizer.encode("  turn \t on ").ids


def test_words_of_the_trade_are_known(tokenizer: Tokenizer) -> None:
    assert UNKNOWN_ID not in tokenizer.encode("turn on the kitchen light at 7:30, please!").ids


def test_another_script_is_unknown_and_not_dropped(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("打开").ids == [UNKNOWN_ID] * len(tokenizer.encode("打开").ids)
    mixed = tokenizer.encode("turn on 灯").ids
    assert mixed[-1] == UNKNOWN_ID
    assert mixed[:-1] == tokenizer.encode("turn on").ids


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("don\u2019t stop", "don't stop"),
        ("don\u2018t stop", "don't stop"),
        ("“stop”", '"stop"'),
        ("TURN ON THE LIGHT", "turn on the light"),
        (unicodedata.normalize("NFD", "café"), unicodedata.normalize("NFC", "café")),
    ],
)
def test_what_looks_the_same_is_the_same(tokenizer: Tokenizer, one: str, other: str) -> None:
    assert tokenizer.encode(one).ids == tokenizer.encode(other).ids


def test_digits_are_read_one_by_one(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("1979").ids == [i for d in "1979" for i in tokenizer.encode(d).ids]


def test_it_neither_pads_nor_truncates(tokenizer: Tokenizer) -> None:
    assert tokenizer.padding is None
    assert tokenizer.truncation is None
    long, short = tokenizer.encode_batch(["turn on " * 200, "stop"])
    assert (len(long.ids), len(short.ids)) == (400, 1)
