"""From scores to slots: the best row of tags that is one at all, and slots that end where words end."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from services.common.slots import continues, slots_of
from services.common.tags import best_row, marks, read_row
from services.contracts.messages import Mark, Slot

TAGS = ["O", "B-a", "I-a", "B-b", "I-b"]
TEXT = "turn on the lamp, now"
WORDS = [(0, 4), (5, 7), (8, 11), (12, 14), (14, 16), (16, 17), (18, 21)]
"""`lamp` is in two pieces, and its comma is a token of its own."""


def scores(*best: str) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """[tokens, tags]: 4 for each token's named tag, 0 for the others."""
    found = np.zeros((len(best), len(TAGS)), np.float32)
    found[np.arange(len(best)), [TAGS.index(tag) for tag in best]] = 4.0
    return found


def decode(
    scored: np.ndarray[tuple[int, int], np.dtype[np.float32]],
    offsets: list[tuple[int, int]],
    text: str,
    tags: list[str],
) -> list[Slot]:
    """All the way, as it is served."""
    return slots_of(marks(scored, continues(offsets, text), tags), offsets, text)


def test_slots_are_what_the_text_says_there() -> None:
    found = decode(scores("O", "O", "O", "B-a", "I-a", "O", "B-b"), WORDS, TEXT, TAGS)
    assert found == [
        Slot("a", "lamp", 12, 16),
        Slot("b", "now", 18, 21),
    ]
    assert decode(scores(*["O"] * 7), WORDS, TEXT, TAGS) == []


def test_no_slot_begins_or_ends_within_a_word() -> None:
    half = scores("O", "O", "O", "B-a", "O", "O", "O")
    half[4, TAGS.index("I-a")] = 3.0
    assert [slot.value for slot in decode(half, WORDS, TEXT, TAGS)] == ["lamp"]
    assert [slot.value for slot in decode(half, WORDS, "turn on the la.p, now", TAGS)] == ["la"], (
        "behind a full stop another word may begin"
    )


def test_an_inside_continues_its_own_type_only() -> None:
    wrong = scores("O", "O", "B-a", "I-b", "I-b", "O", "O")
    wrong[2, TAGS.index("B-b")] = 3.0
    assert [(slot.type, slot.value) for slot in decode(wrong, WORDS, TEXT, TAGS)] == [("b", "the lamp")]


def test_special_tokens_and_padding_are_passed_over() -> None:
    inner = scores("B-b", "O", "O", "O", "B-a", "I-a", "O", "O", "B-b", "B-b", "B-b")
    offsets = [(0, 0), *WORDS, (0, 0)]
    assert [slot.value for slot in decode(inner, offsets, TEXT, TAGS)] == ["lamp"]
    assert decode(np.zeros((1, len(TAGS)), np.float32), [(0, 0)], "", TAGS) == []


def test_the_row_is_the_best_of_all_that_bio_allows() -> None:
    random = np.random.default_rng(5)
    for _ in range(40):
        drawn = random.normal(size=(4, len(TAGS))).astype(np.float32)
        glued = [False, *(bool(random.integers(2)) for _ in range(3))]

        def allowed(row: tuple[int, ...], glued: list[bool] = glued) -> bool:
            for at, tag in enumerate(row):
                name, before = TAGS[tag], TAGS[row[at - 1]] if at else "O"
                if name[0] == "I" and before not in (f"B{name[1:]}", name):
                    return False
                if glued[at] and (name[0] == "B" or (name == "O" and before != "O")):
                    return False
            return True

        every = filter(allowed, itertools.product(range(len(TAGS)), repeat=4))
        best = max(every, key=lambda row: float(sum(drawn[at, tag] for at, tag in enumerate(row))))
        assert tuple(best_row(drawn, glued, TAGS)) == best


def test_scores_of_another_model_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(7, 5\) do not fit 7 tokens and 3 tags"):
        decode(scores(*["O"] * 7), WORDS, TEXT, TAGS[:3])
    with pytest.raises(ValueError, match="do not fit 7 tokens"):
        decode(scores("O"), WORDS, TEXT, TAGS)


def test_an_inside_without_a_beginning_is_repaired() -> None:
    assert read_row(["I-a", "I-a", "I-b", "O"], range(4)) == [Mark("a", 0, 1), Mark("b", 2, 2)]
    assert read_row(["B-a", "O", "I-a", "B-a"], range(4)) == [
        Mark("a", 0, 0),
        Mark("a", 2, 2),
        Mark("a", 3, 3),
    ]
    assert read_row(["B-a", "B-a", "I-a", "O"], [1, 2, 3, 5]) == [Mark("a", 1, 1), Mark("a", 2, 3)]


def test_a_token_goes_on_in_a_word_only_behind_a_letter_or_digit_of_it() -> None:
    assert continues([(0, 0), *WORDS, (0, 0)], TEXT) == [-1, 0, 0, 0, 0, 1, 0, 0, -1]
    assert continues([(0, 1), (1, 2), (2, 3)], "a-b") == [0, 0, 0]
    assert continues([(0, 0)], "") == [-1]
