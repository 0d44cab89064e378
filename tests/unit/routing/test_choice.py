"""Which tier answers: by budget, by floor, by name, under pressure; and coming back without flapping."""

from __future__ import annotations

import pytest

from services.common.catalog import Card
from services.common.problems import Problem
from services.routing.choice import FALL_S, RISE_S, STALE_S, Latency, Pressure, Tier, Wanted, choose


def tier(name: str, accuracy: float, card_ms: float, measured_ms: float | None = None) -> Tier:
    card = Card("intent", name, "1", ["a", "b"], 24, {}, size_mb=10 * card_ms)
    return Tier(card, accuracy, measured_ms, card_ms)


TIERS = [tier("base", 0.93, 2.5, 25.0), tier("tiny", 0.90, 0.06, 2.0), tier("mini", 0.915, 0.7, 8.0)]


def chosen(wanted: Wanted, pressure: int = 0, tiers: list[Tier] = TIERS) -> str:
    return choose(tiers, "tiny", wanted, pressure).card.tier


def test_who_says_nothing_gets_the_preferred_tier() -> None:
    assert chosen(Wanted()) == "tiny"
    assert choose(TIERS, "mini", Wanted()).card.tier == "mini"
    assert choose(TIERS, "huge", Wanted()).card.tier == "tiny", (
        "the smallest, where the preferred one is not there"
    )


@pytest.mark.parametrize(
    ("budget_ms", "expected"),
    [(1000, "base"), (32, "base"), (30, "mini"), (10, "mini"), (9, "tiny"), (0.5, "tiny")],
)
def test_a_budget_gets_the_most_accurate_that_is_expected_within_it(budget_ms: float, expected: str) -> None:
    assert chosen(Wanted(budget_ms=budget_ms)) == expected


def test_the_rest_of_the_way_counts() -> None:
    assert chosen(Wanted(budget_ms=32, spent_ms=10)) == "mini"


def test_a_floor_gets_the_fastest_that_reaches_it() -> None:
    assert chosen(Wanted(min_accuracy=0.5)) == "tiny"
    assert chosen(Wanted(min_accuracy=0.91)) == "mini"
    assert chosen(Wanted(min_accuracy=0.92)) == "base"
    assert chosen(Wanted(min_accuracy=0.91, budget_ms=1000)) == "base"
    assert chosen(Wanted(min_accuracy=0.91, budget_ms=1)) == "mini", "a floor holds, a budget is tried"
    with pytest.raises(Problem, match=r"reached by no tier; intent\.base has the highest, 0\.93") as caught:
        chosen(Wanted(min_accuracy=0.99))
    assert caught.value.ext["field"] == "min_accuracy"


def test_a_tier_that_was_not_measured_is_judged_by_its_card_and_this_node() -> None:
    # mini takes 10 times its card here, so base is thought to take 25 ms.
    tiers = [tier("tiny", 0.90, 0.06, 2.0), tier("mini", 0.915, 0.7, 7.0), tier("base", 0.93, 2.5)]
    assert chosen(Wanted(budget_ms=40), tiers=tiers) == "base"
    assert chosen(Wanted(budget_ms=25), tiers=tiers) == "mini"


def test_pressure_goes_down_the_ladder_and_says_so() -> None:
    slow = Wanted(budget_ms=1000)
    assert [chosen(slow, pressure) for pressure in range(4)] == ["base", "mini", "tiny", "tiny"]
    pressed = choose(TIERS, "tiny", slow, 1)
    assert pressed.degraded and "base would be chosen" in pressed.why
    assert not choose(TIERS, "tiny", Wanted(), 1).degraded, "nothing is smaller than tiny"
    assert chosen(Wanted(min_accuracy=0.91, budget_ms=1000), 5) == "mini", "a floor holds under pressure, too"


def test_pressure_rises_at_once_and_falls_after_calm_step_by_step() -> None:
    pressure = Pressure()
    assert pressure.see(0.2, False, 2, now=0.0) == 0
    assert pressure.see(0.6, False, 2, now=1.0) == 1
    assert pressure.see(0.9, False, 2, now=1.0 + RISE_S / 2) == 1, "a step takes effect before the next one"
    assert pressure.see(0.0, True, 2, now=1.0 + RISE_S) == 2
    assert pressure.see(0.9, True, 2, now=9.0) == 2
    assert pressure.see(0.0, False, 2, now=9.0 + 0.9 * FALL_S) == 2
    assert pressure.see(0.0, False, 2, now=9.0 + FALL_S) == 1
    assert pressure.see(0.0, False, 2, now=9.0 + 1.5 * FALL_S) == 1
    assert pressure.see(0.0, False, 2, now=9.0 + 2 * FALL_S) == 0


def test_load_that_comes_and_goes_every_second_does_not_flap() -> None:
    pressure, levels = Pressure(), []
    for second in range(60):
        levels.append(pressure.see(0.9 if second % 2 else 0.0, False, 1, now=float(second)))
    assert levels[2:] == [1] * 58


def test_a_latency_follows_what_is_measured_and_is_forgotten() -> None:
    latency = Latency()
    assert not latency.known(now=0.0)
    for at in range(50):
        latency.add(10.0, now=at * 0.1)
    assert latency.known(now=5.0) and 10 <= latency.expected_ms < 11
    for at in range(50):
        latency.add(40.0, now=5 + at * 0.1)
    assert 40 <= latency.expected_ms < 55
    assert not latency.known(now=10 + STALE_S)
    latency.add(4.0, now=100.0)
    assert latency.expected_ms == 8.0, "nothing is left of what is stale"
