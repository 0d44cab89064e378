"""KPA against sequences worked out by hand; a replica takes 100 req/s, its target is 70."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from services.autoscaler.policies import Kpa
from tests.unit.autoscaler.conftest import seen


def test_the_stable_window_decides_in_calm() -> None:
    policy = Kpa()
    # 60 / 70 -> 1; then a minute at 130: 130 / 70 = 1.86 -> 2, and 2 / 2 ready is below the threshold.
    assert policy.decide(seen(0, [60] * 60)).wanted == 1
    decision = policy.decide(seen(60, [130] * 60, wanted=2, ready=2))
    assert (decision.wanted, decision.reasons[0].code) == (2, "stable")


def test_panic_enters_at_twice_what_is_ready_and_never_comes_down() -> None:
    policy = Kpa()
    # 54 s of 60 and 6 s of 200: stable 74 -> 2, panic 200 / 70 -> 3, and 3 / 1 >= 2.
    decision = policy.decide(seen(0, [60] * 54 + [200] * 6))
    assert (decision.wanted, decision.reasons[0].code) == (3, "panic")
    # One second of none: panic window (5 x 200) / 6 = 167 -> 3, stays; then silence: the maximum stays.
    assert policy.decide(seen(2, [60] * 54 + [200] * 5 + [0], wanted=3)).wanted == 3
    assert policy.decide(seen(4, [0] * 60, wanted=3, ready=3)).wanted == 3
    # More raises the maximum: 6 s of 300 -> 5, 5 / 3 is below the threshold but it is panicking.
    assert policy.decide(seen(6, [0] * 54 + [300] * 6, wanted=3, ready=3)).wanted == 5


def test_panic_ends_more_than_60_s_after_the_last_crossing() -> None:
    policy = Kpa()
    assert policy.decide(seen(0, [60] * 54 + [200] * 6)).wanted == 3
    wanted = [policy.decide(seen(at, [10] * 60, wanted=3, ready=3)).wanted for at in range(2, 66, 2)]
    # At 60 s it still holds (upstream: panic + window *before* now); at 62 s stable: 10 / 70 -> 1.
    assert wanted[:30] == [3] * 30
    assert wanted[30] == 1


def test_what_keeps_crossing_keeps_the_panic() -> None:
    policy = Kpa()
    for at in range(0, 120, 2):
        assert policy.decide(seen(at, [200] * 60)).wanted == 3
    assert policy.decide(seen(150, [10] * 60, wanted=3, ready=3)).wanted == 3


def test_the_stable_window_counts_in_panic_when_it_is_higher() -> None:
    policy = Kpa()
    policy.decide(seen(0, [300] * 60, ready=1))
    # Stable (54 x 300) / 60 = 270 -> 4 and panic 0: the larger one, 4, and the maximum so far was 5.
    assert policy.decide(seen(2, [300] * 54 + [0] * 6, wanted=5, ready=5)).wanted == 5


def test_at_most_half_goes_at_once() -> None:
    policy, wanted, counts = Kpa(), 10, []
    for at in range(0, 90, 2):
        wanted = policy.decide(
            seen(at, [0] * 60, wanted=wanted, ready=wanted, min_replicas=0, max_replicas=20)
        ).wanted
        counts.append(wanted)
    # It found 10, so it starts in panic for 60 s; then floor(r / 2) each tick; 1 waits for the 30 s of grace.
    assert counts[:31] == [10] * 31
    assert counts[31:35] == [5, 2, 1, 1]
    assert set(counts[35:]) == {1}


def test_scale_to_zero_after_30_s_of_grace_and_not_below_the_least() -> None:
    policy = Kpa()
    idle = [policy.decide(seen(at, [0] * 60, min_replicas=0)).wanted for at in range(0, 36, 2)]
    assert idle == [1] * 15 + [0] * 3  # none wanted since 0 s, gone at 30 s
    assert policy.decide(seen(36, [0] * 59 + [3], wanted=0, ready=0, min_replicas=0)).wanted == 1
    policy = Kpa()
    assert {policy.decide(seen(at, [0] * 60)).wanted for at in range(0, 60, 2)} == {1}


@pytest.mark.parametrize("rates", [[], [None] * 60, [500] * 54 + [None] * 6])
def test_without_a_metric_it_holds(rates: Sequence[int | None]) -> None:
    decision = Kpa().decide(seen(0, rates, wanted=4, ready=4))
    assert (decision.wanted, decision.reasons[0].code) == (4, "no-metrics")


def test_without_a_capacity_it_holds() -> None:
    assert Kpa().decide(seen(0, [500] * 60, capacity_rps=None)).reasons[0].code == "no-metrics"


def test_between_two_ticks_it_holds() -> None:
    policy = Kpa()
    policy.decide(seen(0, [60] * 60))
    assert policy.decide(seen(1, [600] * 60)).reasons[0].code == "between-ticks"
    # A tick that comes 5 ms early is the tick.
    assert policy.decide(seen(1.995, [600] * 60)).wanted == 9


def test_concurrency_averages_what_was_in_flight() -> None:
    policy = Kpa(metric="concurrency", concurrency=10)  # target 7 at a time
    assert policy.decide(seen(0, [], in_flight=6)).wanted == 1
    # Ticks of 6 and 15: stable and panic 10.5 -> 2; 2 / 1 is panic.
    decision = policy.decide(seen(2, [], in_flight=15))
    assert (decision.wanted, decision.reasons[0].code) == (2, "panic")


def test_impossible_options_are_refused() -> None:
    with pytest.raises(ValueError, match="above zero"):
        Kpa(target=0)
