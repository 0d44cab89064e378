"""What the report reads from cards of every form, and how targets are held against them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from models.entries import Entry, EntryError
from models.report.cards import Facts, facts, speed

HEADS = {
    "heads": {
        "hwu64": {
            "valid": 0.93, "test": 0.925, "test_fp32": 0.929, "sentences": {"train": 9, "valid": 2, "test": 3},
            "worst_intents": [{"intent": "a", "recall": 0.25, "sentences": 8, "taken_for": "b"}],
        },
        "clinc150": {
            "test": 0.96, "out_of_scope": {
                "energy": {"recall": 0.8, "accuracy_in_scope": 0.95}, "largest": {"recall": 0.7}, "broken": {},
            },
        },
    },
    "size_mb": 22.8, "rss_mb": 85, "p50_ms": 2.0, "fp32_p50_ms": 5.0,
}  # fmt: skip
ONE = {
    "data": {"name": "HWU64, DialoGLUE cut", "train": 9},
    "accuracy": {"test": 0.87, "valid": 0.9, "test_fp32": 0.88},
    "worst_intents": [{"intent": "a", "recall": 0.5, "taken_for": "b"}],
}
COMMAND = {
    "data": {"name": "slots"},
    "accuracy": {"test": 0.9, "entity_f1": 0.81, "entity_f1_valid": 0.82},
}


def read(card: dict[str, Any]) -> Facts:
    return facts(Entry(Path("catalog/intent/tiny"), card))


def test_a_card_of_several_sets() -> None:
    told = read(HEADS)
    assert [(s.name, s.test, s.fp32) for s in told.scores] == [
        ("hwu64", 0.925, 0.929),
        ("clinc150", 0.96, None),
    ]
    assert told.scores[0].sentences == {"train": 9, "valid": 2, "test": 3}
    assert (told.speed, told.size_mb, told.rss_mb) == (2.5, 22.8, 85)
    energy, largest = told.gates
    assert (energy.score, energy.recall) == ("energy", 0.8)
    assert energy.loss == pytest.approx(0.01)
    assert (largest.score, largest.loss) == ("largest", None)
    (weak,) = told.weak
    assert (weak.set, weak.intent, weak.recall, weak.sentences, weak.taken_for) == (
        "hwu64",
        "a",
        0.25,
        8,
        "b",
    )


def test_a_card_of_one_set_is_compared_with_the_head_of_that_name() -> None:
    told = read(ONE)
    assert [(s.name, s.test, s.fp32, s.valid) for s in told.scores] == [("hwu64", 0.87, 0.88, 0.9)]
    assert [(w.set, w.sentences) for w in told.weak] == [("hwu64", None)]


def test_a_card_with_entities_has_a_second_score() -> None:
    told = read(COMMAND | {"targets": {"entity_f1": 0.8}})
    assert [(s.name, s.test, s.valid) for s in told.scores] == [
        ("slots", 0.9, None),
        ("slots, entity F1", 0.81, 0.82),
    ]
    assert [target.met for target in told.targets] == [True]


def test_seeds_are_what_a_target_is_held_against() -> None:
    seeds = {"hwu64": {"mean": 0.915, "min": 0.91, "max": 0.926, "seeds": [1, 2, 3]}}
    stated = {"targets": {"accuracy": {"hwu64": 0.92}}}
    assert read(HEADS | stated).targets[0].met
    told = read(HEADS | stated | {"seeds": seeds})
    assert told.scores[0].seeds and told.scores[0].seeds.seeds == (1, 2, 3)
    assert (told.targets[0].reached, told.targets[0].met) == (0.915, False)


def test_each_target_is_met_or_missed_on_its_own() -> None:
    told = read(
        HEADS
        | {
            "targets": {
                "accuracy": {"hwu64": 0.925, "clinc150": 0.967, "banking77": 0.93},
                "out_of_scope_recall": 0.6,
                "loss_to_fp32": 0.003,
                "size_mb": 23,
                "rss_mb": 80,
                "p50_ms": 2.0,
            }
        }
    )
    assert {target.what: (target.reached, target.met) for target in told.targets} == {
        "hwu64": (0.925, True),
        "clinc150": (0.96, False),
        "banking77": (None, False),
        "out_of_scope_recall": (0.8, True),
        "loss_to_fp32": (pytest.approx(0.004), False),
        "size_mb": (22.8, True),
        "rss_mb": (85, False),
        "p50_ms": (2.0, True),
    }


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ({"sise_mb": 3}, "the target 'sise_mb' is none of accuracy, "),
        ({"size_mb": "3"}, "the target 'size_mb' must be a number, not '3'"),
        ({"p50_ms": float("nan")}, "the target 'p50_ms' must be a number, not nan"),
        ({"accuracy": {"hwu64": None}}, "the target 'hwu64' must be a number, not None"),
        ({"accuracy": {"hwu64": 92}}, "the target 'hwu64' must lie between 0 and 1, not 92"),
        ({"size_mb": 0}, "the target 'size_mb' must be above 0, not 0"),
        ({"accuracy": 0.9}, "targets.accuracy must name sets"),
        ([0.9], "targets must be an object"),
    ],
    ids=["unknown", "text", "nan", "null", "per-cent", "free", "bare-accuracy", "list"],
)
def test_targets_that_cannot_be_held_are_refused_with_the_card(targets: Any, said: str) -> None:
    with pytest.raises(EntryError) as raised:
        read(HEADS | {"targets": targets})
    assert str(raised.value).startswith(f"{Path('catalog/intent/tiny/card.json')}: ")
    assert said in str(raised.value)


@pytest.mark.parametrize(
    "card",
    [
        {},
        {"accuracy": "good", "data": "none", "variants": [], "heads": []},
        {"heads": {"a": None, "b": {"test": True, "worst_intents": ["x", {"intent": 3}], "out_of_scope": 1}}},
        {"size_mb": 0, "p50_ms": -1, "fp32_p50_ms": 0},
        {"accuracy": {"test": float("inf"), "entity_f1": "high"}, "seeds": {"its own data": 1}, "worst_intents": 3},
    ],
    ids=["empty", "words", "odd-heads", "free", "no-numbers"],
)  # fmt: skip
def test_a_card_that_says_little_has_no_figures(card: dict[str, Any]) -> None:
    told = read(card)
    assert [score.test for score in told.scores if score.test is not None] == []
    assert (told.size_mb, told.speed, told.weak, told.gates, told.targets) == (None, None, (), (), ())


def test_speed_is_fp32s_time_to_its_own() -> None:
    by_batch = {"fp32": {"p50_ms": {"1": 3.0, "8": 9.0}}, "int8": {"p50_ms": {"1": 2.0}}}
    assert speed({"variant": "int8", "variants": by_batch}) == 1.5
    assert speed({"variant": "int8", "variants": by_batch, "fp32_p50_ms": 8.0, "p50_ms": 2.0}) == 4.0
    assert speed({"fp32_p50_ms": 8.0}) is None
    assert speed({"fp32_p50_ms": 8.0, "p50_ms": 0}) is None
    assert speed({}) is None
