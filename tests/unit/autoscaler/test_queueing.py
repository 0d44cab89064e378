"""Replicas for an SLO: against Erlang's table, and against a queue that is run."""

from __future__ import annotations

import heapq
import math
import random

import numpy as np
import pytest

from services.autoscaler.policies import Predictive
from services.autoscaler.policies.queueing import (
    BEYOND,
    BURSTINESS,
    MOST_VARIANCE,
    beyond,
    hear,
    replicas_for,
    variance_of,
)
from tests.unit.autoscaler.conftest import flat, seen


def test_erlangs_c() -> None:
    # Two servers, one busy on average: a third waits. One server: as many as its share of busy time.
    assert beyond(2, 1.0, 0.0, 1.0) == pytest.approx(1 / 3)
    assert beyond(1, 0.6, 0.0, 1.0) == pytest.approx(0.6)
    assert beyond(3, 3.0, 5.0, 1.0) == 1.0


def late(replicas: int, rate: float, capacity: float, slo_s: float, dice: random.Random) -> float:
    """Share of requests of a queue, run request by request, that take longer than the SLO."""
    free = [0.0] * replicas
    heapq.heapify(free)
    now, beyond_slo, requests = 0.0, 0, 60_000
    for _ in range(requests):
        now += dice.expovariate(rate)
        # Squared coefficient of variation of 0.25: the sum of four memoryless stages.
        end = max(now, heapq.heappop(free)) + dice.gammavariate(4, 1 / (4 * capacity))
        heapq.heappush(free, end)
        beyond_slo += end - now > slo_s
    return beyond_slo / requests


@pytest.mark.parametrize(("rate", "slo_s"), [(2.0, 1.0), (3.5, 1.0), (12.0, 1.0), (40.0, 1.0), (40.0, 0.6)])
def test_the_slo_is_kept_and_with_fewer_it_would_not_be(rate: float, slo_s: float) -> None:
    dice = random.Random(7)
    found = replicas_for(rate, 5.0, slo_s, 1.0, 1, 100)
    assert late(found, rate, 5.0, slo_s, dice) <= 2 * BEYOND
    assert found == 1 or late(found - 1, rate, 5.0, slo_s, dice) > BEYOND


def test_one_replica_is_given_a_smaller_share_than_many() -> None:
    share = {many: many * 5.0 * 0.85 for many in (1, 20)}
    assert replicas_for(share[1], 5.0, 1.0, 1.0, 1, 100) > 1
    assert replicas_for(share[20], 5.0, 1.0, 1.0, 20, 100) == 20


def test_bursty_requests_need_more_and_an_slo_that_none_can_keep_asks_for_nothing() -> None:
    calm, bursty = (replicas_for(85.0, 5.0, 1.0, variance, 1, 100) for variance in (1.0, 20.0))
    assert bursty > calm
    assert replicas_for(85.0, 5.0, 0.1, 1.0, 3, 100) == 3
    assert replicas_for(500.0, 5.0, 1.0, 1.0, 1, 30) == 30


def test_chance_a_rise_and_bursts_are_told_apart() -> None:
    dice = random.Random(11)

    def heard(counts: list[int]) -> float:
        burstiness = np.zeros(1, dtype=BURSTINESS)[0]
        burstiness["last"] = math.nan
        for at in range(2, len(counts), 2):
            hear(burstiness, sum(counts[at - 2 : at]) / 2, 2.0)
        return variance_of(burstiness)

    def chance(mean: float) -> int:
        return sum(dice.random() < mean / 1000 for _ in range(1000))

    assert heard([]) == 1.0
    assert heard([chance(50) for _ in range(1200)]) == pytest.approx(1.0, abs=0.6)
    assert heard([2 * at for at in range(600)]) == 1.0
    assert heard([dice.choice((0, 400)) for _ in range(600)]) == MOST_VARIANCE
    assert heard([0] * 100) == 1.0


def test_a_decision_says_when_the_slo_is_what_asks_for_more() -> None:
    policy = Predictive(price=1.0, slo_s=0.6)
    for at in range(120, 600, 2):
        decision = policy.decide(
            seen(
                at, [4] * 120, wanted=1, ready=1, capacity_rps=5.0, start_delay_s=20.0, max_replicas=9,
                forecast=flat(at, 4),
            )
        )  # fmt: skip
    assert decision.wanted == 2
    assert decision.reasons[0].code == "slo"
    assert "0.6 s" in decision.reasons[0].text


def test_an_slo_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="SLO"):
        Predictive(slo_s=0.0)
