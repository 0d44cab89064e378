"""What is learned of the load to come: on series whose law is known."""

from __future__ import annotations

import math
import random
from typing import NamedTuple

import numpy as np
import pytest

from services.autoscaler.policies import Predictive, errors, least_squares, outlook
from services.autoscaler.policies.newsvendor import quantile_of
from services.autoscaler.policies.outlook import LEARNED, MEANS_S, OUTCOME_S, WIDEST
from tests.unit.autoscaler.conftest import flat, seen


def test_least_squares_find_the_weights_and_keep_their_prior_where_nothing_moves() -> None:
    dice = random.Random(1)
    prior = np.array([1.0, 0.0, 0.5])
    matrix, sums = np.zeros((3, 3)), np.zeros((2, 3))
    assert least_squares.solve(matrix, sums, prior, 2.0).tolist() == [prior.tolist()] * 2
    for _ in range(3000):
        x = np.array([dice.gauss(0, 1), dice.gauss(0, 1), 0.0])
        least_squares.learn(matrix, sums, x, np.array([2 * x[0] - x[1], 0.3 * x[1]]), 1 - 1 / 10_000)
    first, second = least_squares.solve(matrix, sums, prior, 2.0)
    assert first == pytest.approx((2, -1, 0.5), abs=0.01)
    assert second == pytest.approx((0, 0.3, 0.5), abs=0.01)


def test_least_squares_forget() -> None:
    matrix, sums = np.zeros((1, 1)), np.zeros((1, 1))
    for weight in (1.0, 3.0):
        for _ in range(500):
            least_squares.learn(matrix, sums, np.ones(1), np.array([weight]), 1 - 1 / 50)
    assert least_squares.solve(matrix, sums, np.zeros(1), 1e-6)[0, 0] == pytest.approx(3, abs=0.01)


def test_errors_give_their_quantile_and_a_first_guess_fades() -> None:
    ordered, in_turn = np.zeros(errors.MEMORY + 1), np.zeros(errors.MEMORY)
    assert errors.quantile(ordered, 0, 0.9, 7.0) == 7.0
    for error in range(101):
        errors.remember(ordered, in_turn, error, float(100 - error))
    trust = 101 / (101 + errors.PRIOR)
    assert errors.quantile(ordered, 101, 0.9, 7.0) == pytest.approx(trust * 90 + (1 - trust) * 7)
    for count in range(101, 101 + errors.MEMORY):
        errors.remember(ordered, in_turn, count, 1.0)
    assert errors.quantile(ordered, 101 + errors.MEMORY, 0.99, 1.0) == 1.0


def test_errors_stay_those_that_came_last() -> None:
    dice, memory = random.Random(3), 50
    ordered, in_turn, came = np.zeros(memory + 1), np.zeros(memory), []
    for count in range(400):
        came.append(float(dice.randrange(20)))
        errors.remember(ordered, in_turn, count, came[-1])
        known = min(count + 1, memory)
        assert ordered[:known].tolist() == sorted(came[-memory:])


class Expected(NamedTuple):
    """What is expected at three instants; all_rps: every quantile at the last of them, None where none was sampled."""

    ahead_s: list[float]
    rates_rps: list[float]
    high_rps: list[float]
    all_rps: list[float] | None


class Life:
    """An outlook that is told of a series, tick by tick of 2 s."""

    def __init__(self, *quantiles: float) -> None:
        self.memory = np.zeros(1, dtype=LEARNED)[0]
        outlook.prepare(self.memory, quantiles)
        self.now = 0.0
        self._began = False

    def go_on(self, counts: list[int]) -> None:
        """Take in the last two seconds of `counts`, or begin with them."""
        if self._began:
            rate, outcome = (sum(counts[-seconds:]) / seconds for seconds in (2, OUTCOME_S))
            outlook.advance(self.memory, self.now, 2.0, rate, outcome, 100.0)
        else:
            known = [counts[-round(float(mean_s)) :] for mean_s in MEANS_S]
            self._began = outlook.begin(self.memory, [sum(each) / len(each) for each in known])

    def expect(self, at: float, forecast: float, place: float = 0.0, lead_s: float = 20.0) -> Expected:
        """What is expected at a time."""
        told = outlook.told(flat(at, forecast))
        sampled = outlook.expect(self.memory, told, self.now, 0.0, 2.0, lead_s, place, 100.0)
        ahead_s, rates_rps, high_rps = (
            self.memory[name].tolist() for name in ("ahead_s", "rates_rps", "high_rps")
        )
        all_rps = self.memory["all_rps"][:, -1].tolist()
        return Expected(ahead_s, rates_rps, high_rps, all_rps if sampled else None)


def lived(
    rate: list[int], *, forecast: float, quantile: float = 0.9, lead_s: float = 20.0
) -> list[tuple[int, Expected]]:
    """What was expected at each tick of 2 s of a series, a lead ahead."""
    life, said = Life(quantile), []
    for at in range(120, len(rate), 2):
        life.now = float(at)
        life.go_on(rate[at - 120 : at])
        said.append((at, life.expect(at, forecast, lead_s=lead_s)))
    return said


def test_a_forecast_that_is_wrong_is_found_out() -> None:
    said = lived([100] * 4000, forecast=160)
    assert said[0][1].rates_rps[-1] == pytest.approx(160)
    assert said[-1][1].rates_rps[-1] == pytest.approx(100, abs=3)
    assert said[-1][1].ahead_s == [2, 11, 20]


def test_a_slope_that_lasts_is_drawn_on_where_that_was_worth_it() -> None:
    # Up for a minute, down for a minute, by 2 req/s each second: the forecast, their mean, knows nothing of it.
    rate = [80 + 2 * (at % 120 if at % 120 < 60 else 120 - at % 120) for at in range(7200)]
    wrong = [
        abs(one.rates_rps[-1] - rate[at + 20]) for at, one in lived(rate, forecast=140) if 6000 < at < 7100
    ]
    persisting = [abs(rate[at] - rate[at + 20]) for at in range(6000, 7100)]
    assert sum(wrong) / len(wrong) < 0.7 * sum(persisting) / len(persisting)


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.98])
def test_the_quantile_is_kept(quantile: float) -> None:
    dice = random.Random(2)
    level, rate = 100.0, []
    for at in range(20_000):
        if at % 10 == 0:
            level = max(20.0, 100 + 0.95 * (level - 100) + dice.gauss(0, 6))
        rate.append(round(level))
    said = [(at, one) for at, one in lived(rate, forecast=100, quantile=quantile) if 8000 < at < 19_900]
    kept = sum(rate[at + 20] <= one.high_rps[-1] + 0.5 for at, one in said) / len(said)
    assert kept == pytest.approx(quantile, abs=0.04)


def test_nothing_wild_is_expected_after_a_jump_and_a_pause_is_another_life() -> None:
    policy = Predictive(price=9.0)
    for at in [*range(0, 600, 2), *range(900, 1000, 2), 500, 502]:
        rate = 1000 if at > 590 else 10
        decision = policy.decide(seen(at, [rate] * 120, start_delay_s=20.0, forecast=flat(at, 10)))
        why = next(reason for reason in decision.reasons if reason.code in ("forecast", "recent-load"))
        assert why.code == "recent-load" or 10 / WIDEST <= why.values[0] <= 1000 * WIDEST
        assert decision.forecast_rps is not None
        assert decision.forecast_rps < 10 * 1000


def test_nothing_heard_nothing_expected() -> None:
    decision = Predictive().decide(seen(0, [None] * 60, forecast=flat(0, 10)))
    assert decision.forecast_rps is None
    memory = np.zeros(1, dtype=LEARNED)[0]
    assert not outlook.begin(memory, [math.nan] * len(MEANS_S))
    assert outlook.begin(memory, [math.nan, 7.0, 8.0, 9.0, 9.0])
    assert memory["means"].tolist() == [7, 7, 8, 9, 9]


def test_a_price_is_a_quantile() -> None:
    assert quantile_of(9) == pytest.approx(0.9)
    assert quantile_of(1) == 0.5
    for price in (0, -1, math.nan, math.inf):
        with pytest.raises(ValueError, match="price"):
            quantile_of(price)


def test_a_jump_out_of_nothing_is_no_giant_once_there_is_load() -> None:
    rate = [0] * 400 + [250] * 200 + [0] * 30
    highs = [one.high_rps[-1] for at, one in lived(rate, forecast=0, quantile=0.988) if at > 520]
    assert max(highs) < 5 * 250


def after_a_jump(seed: int) -> float:
    """The load that is expected in the minute after a jump out of 40 quiet seconds, over that which comes."""
    dice = random.Random(seed)
    level = [300.0] * 160 + [1000 - 10 * at for at in range(60)] + [400.0] * 60
    rate = [round(dice.gauss(each, math.sqrt(each))) for each in level]
    life, excess = Life(0.9), []
    for at in range(120, 270, 2):
        life.now = float(at)
        life.go_on(rate[at - 120 : at])
        said = life.expect(at, sum(rate[at - 5 : at]) / 5, lead_s=4.0)
        if at >= 180:
            excess.append(said.rates_rps[-1] / level[at + 4])
    return sum(excess) / len(excess)


def test_a_jump_that_nothing_announced_is_not_drawn_on_in_the_minute_after() -> None:
    # By then most of what was learned is the jump.
    assert sum(after_a_jump(seed) for seed in range(4)) / 4 < 1.12


def test_what_lies_between_two_quantiles_is_mixed_of_what_they_ask_for() -> None:
    dice = random.Random(9)
    life, sampled = Life(0.5, 0.9), 0
    for at in range(120, 3000, 2):
        life.now = float(at)
        life.go_on([round(dice.gauss(100, 10)) for _ in range(120)])
        said = life.expect(at, 100, 0.25)
        if said.all_rps is not None:
            sampled += 1
            assert said.high_rps[-1] == pytest.approx(0.75 * said.all_rps[0] + 0.25 * said.all_rps[1])
    assert sampled > 400
