"""KEDA and what it feeds against sequences worked out by hand; a replica takes 100 req/s, the threshold is 70."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from services.autoscaler.policies import Keda
from tests.unit.autoscaler.conftest import seen


@pytest.mark.parametrize(
    ("rate", "replicas", "wanted", "code"),
    [
        (140, 2, 2, "tolerance"),  # 140 / (70 x 2) = 1
        (153, 2, 2, "tolerance"),  # 1.093
        (154, 2, 3, "rate"),  # 154000 / 140000 = 1.1 + 9e-17: beyond 0.1, ceil(2.2) = 3
        (126, 2, 2, "tolerance"),  # 0.9
        (211, 3, 3, "tolerance"),  # 1.005: rounding up alone would say 4
        (500, 2, 6, "rate-limit"),  # ceil(7.14) = 8, but 2 + 4 is all that 15 s allow
        (71, 1, 1, "tolerance"),  # 1.014
        (78, 1, 2, "rate"),  # 1.114: ceil(1.114) = 2
    ],
)
def test_ratio_tolerance_and_rounding_up(rate: int, replicas: int, wanted: int, code: str) -> None:
    decision = Keda().decide(seen(0, [rate] * 60, wanted=replicas, ready=replicas))
    assert (decision.wanted, decision.reasons[0].code) == (wanted, code)


def test_the_metric_is_the_mean_of_a_minute() -> None:
    # 50 s of 60 and 10 s of 240: (3000 + 2400) / 60 = 90, 90 / 70 = 1.29 -> 2.
    decision = Keda().decide(seen(0, [999] * 60 + [60] * 50 + [240] * 10))
    assert decision.wanted == 2
    assert "90.0 req/s" in decision.reasons[0].text


def test_who_is_starting_counts_as_there() -> None:
    # 280 / (70 x (2 ready + 2 starting)) = 1: what was ordered is not ordered again.
    decision = Keda().decide(seen(0, [280] * 60, wanted=4, ready=2, starting=2))
    assert (decision.wanted, decision.reasons[0].code) == (4, "tolerance")


def test_syncs_every_15_s_and_comes_down_after_300_s() -> None:
    policy, wanted, changes = Keda(), 4, []
    for at in range(0, 602, 2):
        rate = 280 if at < 60 else 70
        decision = policy.decide(seen(at, [rate] * 60, wanted=wanted, ready=wanted))
        if decision.changes:
            changes.append((at, decision.wanted))
        wanted = decision.wanted
    # Syncs at 0, 15, 30, 45 (seen at the tick of 46) asked for 4; the one of 45 counts until 345 and no longer.
    assert changes == [(346, 1)]


def test_activation_and_cooldown() -> None:
    policy, wanted, changes = Keda(), 0, []
    for at in range(0, 602, 2):
        arrivals = [0] * 60 if at < 44 or at > 60 else [3] * 60
        decision = policy.decide(seen(at, arrivals, wanted=wanted, ready=wanted, min_replicas=0))
        if decision.changes:
            changes.append((at, decision.wanted, decision.reasons[0].code))
        wanted = decision.wanted
    # Polls at 0, 30, 60, ...: active at 60; active last at 60, so 300 s later, at 360, the cooldown is over.
    assert changes == [(60, 1, "activated"), (360, 0, "deactivated")]


def test_the_hpa_alone_never_goes_to_zero() -> None:
    policy = Keda()
    for at in range(0, 300, 15):
        assert policy.decide(seen(at, [0] * 60, min_replicas=0)).wanted == 1


@pytest.mark.parametrize("rates", [[], [None] * 60, [500] * 54 + [None] * 6])
def test_without_a_metric_it_holds(rates: Sequence[int | None]) -> None:
    decision = Keda().decide(seen(0, rates, wanted=4, ready=4))
    assert (decision.wanted, decision.reasons[0].code) == (4, "no-metrics")


def test_a_target_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="not above zero"):
        Keda(target=0)
