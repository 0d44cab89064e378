"""The price that beats HPA: what is lived through on paper, and which price comes out."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest

from services.autoscaler.policies import Predictive
from services.autoscaler.policies.yardstick import (
    FEWEST,
    FIRST_PRICE,
    LADDER,
    MISSES,
    TOTALS,
    WASTE,
    Shadow,
    at_place,
    chosen,
    hear,
    hpa_ready_at,
    judge,
    prepare,
)
from tests.unit.autoscaler.conftest import flat, seen

_PRICES = len(LADDER)


def nothing_seen() -> Any:
    totals = np.zeros(1, dtype=TOTALS)[0]
    prepare(totals)
    return totals


def shares(short: list[float], waste: list[float]) -> float:
    return chosen(np.array(short), np.array(waste))


def test_the_lowest_price_that_misses_little_enough_is_chosen() -> None:
    short = [0.4, 0.2, 0.1, 0.05, 0.02, 0.004, 0.001, 0.0, 0.04]
    waste = [0.02, 0.05, 0.08, 0.1, 0.12, 0.15, 0.18, 0.2, 0.3]
    place = shares(short, waste)
    assert 4 < place < 5  # a quarter of 4 % lies between 2 and 0.4 %
    between = short[4] * (short[5] / short[4]) ** (place - 4)
    assert between == pytest.approx(MISSES * 0.04)


def test_no_price_that_wastes_more_than_hpa_is_chosen_however_much_is_missed() -> None:
    waste = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.4]
    place = shares([0.5] * _PRICES + [0.1], waste)
    assert waste[2] + (place - 2) * 0.1 == pytest.approx(WASTE * 0.4)
    assert shares([0.5] * _PRICES + [0.1], [0.5] * _PRICES + [0.1]) == 0.0


def test_where_hpa_misses_nothing_the_price_rises_until_nothing_is_missed() -> None:
    short = [0.4, 0.2, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert shares(short, [0.01 * k for k in range(_PRICES)] + [0.5]) == pytest.approx(3)
    assert shares([0.1] * _PRICES + [0.0], [0.01] * _PRICES + [0.5]) == _PRICES - 1


def test_what_was_not_wanted_a_lead_ago_is_missing_now() -> None:
    totals = nothing_seen()
    # 100 requests/s at 10 a replica for each price; HPA has 12. After a minute 200 come, and are asked for at once.
    high = np.full((_PRICES, 3), 100.0)
    for at in range(0, 300, 6):
        rate = 100.0 if at < 60 else 200.0
        high[:] = rate
        hear(totals, float(at), 12)
        judge(totals, float(at), high, 0.0, 10.0, 30.0, 1, 50, rate)
    judged = int(totals["judged"])
    # Judged from a lead and half of the window on; short from the rise until a lead after it was asked for.
    assert judged == pytest.approx(44, abs=1)
    assert 5 <= float(totals["short"][0]) <= 8
    assert float(totals["short"][_PRICES]) > 30
    full = float(totals["weight"] - totals["short"][_PRICES])
    assert float(totals["over"][_PRICES]) == pytest.approx(2 * full)


def test_what_is_let_go_in_between_is_not_there() -> None:
    totals = nothing_seen()
    for at in range(0, 300, 6):
        asked = 50.0 if 120 <= at < 150 else 100.0
        hear(totals, float(at), 10)
        judge(totals, float(at), np.full((_PRICES, 3), asked), 0.0, 10.0, 30.0, 1, 50, 100.0)
    # Less was asked for during half a minute, and what came after needed a lead to be there again.
    assert 8 <= float(totals["short"][0]) <= 12


def test_the_shadow_is_hpa_with_the_start_delay() -> None:
    shadow = Shadow()
    ready = []
    for at in range(0, 300, 2):
        rate = 140 if at < 60 else 280
        observation = seen(at, [rate] * 120, wanted=20, ready=20, capacity_rps=10.0, max_replicas=100)
        ready.append((at, shadow.live(observation, 30.0)))
    assert {count for at, count in ready if at < 90} == {20}
    # 280 at 10 a replica: all 20 are busy, so HPA can ask for no more than 100 / 70 of them at a time.
    first = next(at for at, count in ready if count > 20)
    assert 90 <= first <= 107
    assert ready[-1][1] == 40


def test_a_steady_load_wastes_less_than_hpa_and_a_decision_says_how_it_stands() -> None:
    dice = random.Random(5)
    policy = Predictive()
    rate = [0] * 7200
    for at in range(len(rate)):
        rate[at] = round(dice.gauss(200, 14))
    wanted, decision = 26, None
    for at in range(120, len(rate), 2):
        observation = seen(
            at, rate[at - 120 : at], wanted=wanted, ready=wanted, capacity_rps=10.0, start_delay_s=20.0,
            max_replicas=100, forecast=flat(at, 200),
        )  # fmt: skip
        decision = policy.decide(observation)
        wanted = decision.wanted
    assert decision is not None
    why = next(reason for reason in decision.reasons if reason.code == "price")
    _, short, waste, _, hpa_waste = why.values
    assert short < 1
    assert waste < 0.7 * hpa_waste
    assert "HPA at 70 %" in why.text
    assert 24 <= wanted <= 28


def judged(samples: int, rate_rps: float) -> Any:
    totals = nothing_seen()
    for at in range(0, 6 * samples, 6):
        hear(totals, float(at), 12)
        judge(totals, float(at), np.full((_PRICES, 3), 100.0), 0.0, 10.0, 20.0, 1, 50, rate_rps)
    return totals


def test_until_enough_was_seen_the_first_price_is_used() -> None:
    totals = judged(FEWEST, 100.0)
    assert totals["judged"] > 0
    assert totals["choices"] == 0
    assert totals["price"] == pytest.approx(FIRST_PRICE)
    assert judged(2 * FEWEST, 100.0)["choices"] > 0


def test_a_dead_metric_judges_nobody() -> None:
    totals = judged(2 * FEWEST, math.nan)
    assert (totals["judged"], totals["choices"]) == (0, 0)


def test_what_hpa_had_ready_is_known_for_a_while() -> None:
    totals = nothing_seen()
    for at in range(0, 1000, 2):
        hear(totals, float(at), at // 100)
    assert hpa_ready_at(totals, 998.0) == 9
    assert hpa_ready_at(totals, 899.0) == 8
    assert hpa_ready_at(totals, 901.0) == 9


def test_a_place_between_two_prices_is_a_price_between_them() -> None:
    assert nothing_seen()["place"] == LADDER.index(FIRST_PRICE)
    logarithms = np.log(LADDER)
    assert math.exp(at_place(logarithms, 3.5)) == pytest.approx(math.sqrt(LADDER[3] * LADDER[4]))
    assert at_place(logarithms, _PRICES - 1.0) == logarithms[-1]
