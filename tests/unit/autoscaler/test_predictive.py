"""The predictive policy: a replica takes 100 req/s, so it serves 85 at its target, 70 without a forecast."""

from __future__ import annotations

import math
from typing import Any

import pytest
from msgspec.structs import replace

from services.autoscaler.decision import Decision
from services.autoscaler.observation import ForecastView, Observation
from services.autoscaler.policies import Predictive
from tests.unit.autoscaler.conftest import T0, flat, seen


def codes(decision: Decision) -> list[str]:
    return [reason.code for reason in decision.reasons]


def test_the_forecast_scales_before_the_traffic_arrives() -> None:
    # 3 s of start, a tenth more for a late one, a tick of 2 s. q0.9 is 412: 412 / 85 = 4.85.
    policy = Predictive(price=9)
    decision = policy.decide(seen(0, [50] * 60, wanted=3, ready=3, forecast=flat(0, 400, spread=12)))
    assert decision.wanted == 5
    assert decision.reasons[0].text == (
        "400 req/s are expected in 5 s, q0.9 is 412 req/s; a replica serves 85 req/s at 85 % -> 5"
    )
    assert decision.counterfactual == (
        "without this step: 3 replicas would serve 300 req/s, 112 short, "
        "queue bound (1536) reached in about 14 s"
    )
    assert decision.forecast_rps == pytest.approx(412)


def test_it_looks_no_further_than_a_replica_needs() -> None:
    ramp = ForecastView(T0, 10.0, (10.0, 20.0, 30.0), (0.5, 0.99), ((80, 80), (160, 160), (900, 900)))
    # 5.3 s ahead is the middle of the step that ends at 10.3 s; the 900 beyond are not its business yet.
    assert Predictive().decide(seen(0, [80] * 60, forecast=ramp)).forecast_rps == pytest.approx(82.4)
    # Horizons count from when it was issued: 4 s later the same 5.3 s reach to 9.3 s.
    assert Predictive().decide(seen(4, [80] * 60, forecast=ramp)).forecast_rps == pytest.approx(114.4)
    # A start of 10 s looks 13 s ahead: 144 req/s.
    slow = seen(0, [80] * 60, forecast=ramp, start_delay_s=10.0)
    assert Predictive().decide(slow).forecast_rps == pytest.approx(144)


def test_what_falls_before_a_replica_could_serve_keeps_those_there_and_orders_none() -> None:
    def decided(wanted: int) -> int:
        policy = Predictive(price=9)
        for at in range(0, 3000, 2):
            # A start of 60 s; each half minute the load falls from 300 to 30 for as long.
            rates = [300 if (at + s) // 30 % 2 else 30 for s in range(-120, 0)]
            rising = ForecastView(T0 + at, 2.0, (2.0, 60.0), (0.5, 0.99), ((300, 300), (30, 30)))
            decision = policy.decide(
                seen(at, rates, wanted=wanted, ready=wanted, start_delay_s=60.0, forecast=rising)
            )
        return decision.wanted

    assert decided(4) == 4


def test_more_is_ordered_at_a_second_look_where_there_is_time_for_one() -> None:
    policy = Predictive()
    calm = seen(0, [50] * 60, start_delay_s=30.0, forecast=flat(0, 50))
    assert policy.decide(calm).wanted == 1
    assert policy.decide(replace(calm, now=T0 + 2, forecast=flat(2, 400))).wanted == 1
    assert policy.decide(replace(calm, now=T0 + 4, forecast=flat(4, 400))).wanted == 5


def test_the_last_seconds_are_a_floor_below_the_forecast() -> None:
    decision = Predictive().decide(seen(0, [50] * 54 + [250] * 6, forecast=flat(0, 50)))
    assert (decision.wanted, codes(decision)) == (3, ["recent-load"])


def test_a_burst_of_two_seconds_is_heard_beyond_chance() -> None:
    # (800 - 2 sqrt(800)) / 2 = 372 -> 5; the mean of 6 s, 167, would ask for 2.
    decision = Predictive().decide(seen(0, [50] * 58 + [400] * 2, forecast=flat(0, 50)))
    assert (decision.wanted, codes(decision)) == (5, ["burst"])
    # 3 requests in 2 s after a minute of none may be chance: 1.5 req/s of a replica that takes 2.
    assert Predictive().decide(seen(0, [0] * 58 + [2, 1], capacity_rps=2.0, forecast=flat(0, 0))).wanted == 1


def test_a_backlog_asks_for_what_drains_it() -> None:
    # 80 req/s come, 600 wait: 80 + 600 / 5.3 = 193 req/s, and while it drains 100 % may be used.
    decision = Predictive().decide(seen(0, [80] * 60, queue=600.0, forecast=flat(0, 80)))
    assert (decision.wanted, codes(decision)) == (2, ["backlog"])


def test_hot_replicas_ask_for_more_after_two_ticks() -> None:
    policy = Predictive()
    hot = seen(0, [50] * 60, wanted=2, ready=2, queue=2.0, utilisation=(0.97, 0.99), forecast=flat(0, 50))
    assert policy.decide(hot).wanted == 2
    # 2 x 0.98 / 0.85 = 2.3: the capacity was overrated, and the measured CPU knows it.
    decision = policy.decide(replace(hot, now=T0 + 2))
    assert (decision.wanted, codes(decision)) == (3, ["cpu"])


def test_replicas_that_are_busy_and_keep_nobody_waiting_ask_for_nothing() -> None:
    policy = Predictive()
    for at in range(0, 40, 2):
        busy = seen(
            at, [150] * 60, wanted=2, ready=2, queue=1.9, utilisation=(1.0, 1.0), forecast=flat(at, 150)
        )
        decision = policy.decide(busy)
    assert decision.wanted == 2


@pytest.mark.parametrize(
    ("forecast", "code"),
    [(None, "no-forecast"), (flat(-7, 50), "stale-forecast"), (flat(60, 50), "stale-forecast")],
)
def test_without_a_fresh_forecast_the_floor_decides_and_says_so(
    forecast: ForecastView | None, code: str
) -> None:
    # 150 / 70 -> 3: with nothing known of what comes, it keeps the headroom that HPA keeps.
    decision = Predictive().decide(seen(0, [150] * 60, forecast=forecast))
    assert (decision.wanted, codes(decision)) == (3, ["recent-load", code])
    assert decision.forecast_rps is None


def test_a_forecast_of_six_seconds_ago_is_fresh_at_ticks_of_two() -> None:
    assert codes(Predictive().decide(seen(0, [10] * 60, forecast=flat(-6, 200)))) == ["forecast"]


def test_an_unmeasured_start_is_assumed_and_said() -> None:
    decision = Predictive().decide(seen(0, [10] * 60, start_delay_s=None, forecast=flat(0, 200)))
    # 1.1 x 5 s + 2 s.
    assert "expected in 8 s" in decision.reasons[0].text
    assert codes(decision) == ["forecast", "start-delay-unknown"]


def test_a_dead_metric_holds_whatever_is_forecast() -> None:
    policy = Predictive()
    for at in range(0, 120, 2):
        decision = policy.decide(
            seen(at, [300] * 55 + [None] * 5, wanted=4, ready=4, forecast=flat(at, 1 if at < 60 else 900))
        )
        assert (decision.wanted, codes(decision)) == (4, ["metric-gap"])


def test_after_a_gap_the_hold_begins_anew() -> None:
    policy = Predictive()
    for at in range(0, 60, 2):
        policy.decide(seen(at, [300] * 60, wanted=4, ready=4, forecast=flat(at, 300)))
    for at in range(60, 90, 2):
        policy.decide(seen(at, [None] * 60, wanted=4, ready=4, forecast=flat(at, 300)))
    held = [
        policy.decide(seen(at, [10] * 60, wanted=4, ready=4, forecast=flat(at, 10))).wanted
        for at in range(90, 102, 2)
    ]
    assert held == [4, 4, 4, 4, 1, 1]


def test_a_decision_is_of_plain_numbers() -> None:
    policy = Predictive()
    for at in range(0, 60, 2):
        load = 300 if at < 20 else 80
        observation = seen(
            at, [load] * 60, wanted=4, ready=4, utilisation=(0.2,) * 4, forecast=flat(at, load)
        )
        decision = policy.decide(observation)
        said = [value for reason in decision.reasons for value in reason.values]
        assert {type(value) for value in (*said, decision.wanted, decision.forecast_rps)} <= {int, float}
    assert codes(decision) == ["step-down", "forecast"]


def steps_down(load: float, **fields: object) -> list[int]:
    """Counts from 4 replicas on, tick by tick, after the load fell to `load` at 0 s."""
    policy, wanted, counts = Predictive(), 4, []
    for at in range(-20, 40, 2):
        now = 320 if at < 0 else load
        observation = seen(at, [int(now)] * 60, wanted=wanted, ready=wanted, forecast=flat(at, now), **fields)
        wanted = policy.decide(observation).wanted
        if at >= 0:
            counts.append(wanted)
    return counts


def test_it_comes_down_after_a_hold() -> None:
    # The last need of 4 was at -2 s; a hold of 8 s later, at 8 s, it is out of the window.
    assert steps_down(40)[:9] == [4, 4, 4, 4, 1, 1, 1, 1, 1]


def test_survivors_must_carry_the_load() -> None:
    assert steps_down(172)[-1] == 3
    assert steps_down(160)[-1] == 2


def test_survivors_must_carry_the_measured_cpu() -> None:
    policy, wanted = Predictive(), 2
    for at in range(0, 40, 2):
        observation = seen(
            at, [40] * 60, wanted=wanted, ready=wanted, utilisation=(0.5,) * wanted, forecast=flat(at, 40)
        )
        decision = policy.decide(observation)
        wanted = decision.wanted
    # By the estimate one replica would run at 40 %, by its CPU at 100 %.
    assert (wanted, codes(decision)[0]) == (2, "survivors")


def test_zero_only_after_30_s_of_nothing_and_back_at_once() -> None:
    policy, wanted, counts = Predictive(), 1, []
    for at in range(0, 36, 2):
        observation = seen(at, [0] * 60, wanted=wanted, ready=wanted, min_replicas=0, forecast=flat(at, 0))
        wanted = policy.decide(observation).wanted
        counts.append(wanted)
    assert counts == [1] * 15 + [0] * 3
    again = seen(36, [0] * 59 + [9], wanted=0, ready=0, min_replicas=0, forecast=flat(36, 0))
    assert policy.decide(again).wanted == 1


def test_without_a_capacity_only_the_cpu_speaks() -> None:
    policy = Predictive()
    blind = seen(0, [500] * 60, capacity_rps=None, utilisation=(0.2,), forecast=flat(0, 500))
    assert codes(policy.decide(blind)) == ["no-capacity"]
    hot = replace(blind, utilisation=(1.0,))
    policy.decide(replace(hot, now=T0 + 2))
    decision = policy.decide(replace(hot, now=T0 + 4))
    assert (decision.wanted, codes(decision)) == (2, ["cpu"])


def test_bounds_are_kept_and_said() -> None:
    decision = Predictive().decide(seen(0, [10] * 60, max_replicas=4, forecast=flat(0, 900)))
    assert (decision.wanted, codes(decision)) == (4, ["forecast", "bounds"])
    assert "11 is outside 1..4" in decision.reasons[1].text
    # Too many for new bounds: down to them at once, there is no choice.
    too_many = seen(0, [10] * 60, wanted=9, ready=9, max_replicas=4, forecast=flat(0, 10))
    assert Predictive().decide(too_many).wanted == 4


def serving(policy: Predictive, at: int, rate: int, wanted: int, ready: int) -> Observation:
    return seen(at, [rate] * 60, wanted=wanted, ready=ready, forecast=flat(at, rate))


def test_noise_around_a_step_does_not_flap() -> None:
    policy, wanted, changes = Predictive(), 2, 0
    for tick in range(300):
        rate = 170 + round(8 * math.sin(tick))  # 2 replicas serve 170
        decision = policy.decide(serving(policy, 2 * tick, rate, wanted, wanted))
        changes += decision.changes
        wanted = decision.wanted
    assert changes == 1


@pytest.mark.parametrize(
    "options", [{"tick_s": 0.0}, {"price": math.inf}, {"price": 0.0}, {"target_utilisation": 1.2}]
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"outside|above zero"):
        Predictive(**options)
