"""Persistence, trend and foresight against sums done by hand; a replica takes 100 req/s and is used to 85."""

from __future__ import annotations

import pytest

from services.autoscaler.observation import ForecastView
from services.autoscaler.policies import Persistence, Trend
from services.autoscaler.policies.foresight import Foresight
from services.autoscaler.policies.trend import line
from tests.unit.autoscaler.conftest import T0, seen


@pytest.mark.parametrize(
    ("rates", "headroom", "wanted"),
    [
        ([170] * 60, 0.0, 2),  # 170 / 85 = 2
        ([171] * 60, 0.0, 3),
        ([170] * 60, 0.2, 3),  # 204 / 85 = 2.4
        ([900] * 60 + [170] * 60, 0.0, 2),  # the last minute only
        ([170, None] * 30, 0.0, 2),  # a gap is no zero
        ([0] * 60, 0.5, 1),
    ],
)
def test_persistence_takes_the_last_minute_and_adds_headroom(
    rates: list[int | None], headroom: float, wanted: int
) -> None:
    assert Persistence(headroom=headroom).decide(seen(0, rates, wanted=1)).wanted == wanted


def test_a_line_goes_on() -> None:
    # 1, 2, ..., 60: second k has k + 1, at its middle. 30 s after the end of the last one: 60 + 0.5 + 30.
    assert line(tuple(range(1, 61)), 30.0) == pytest.approx(90.5)
    assert line(tuple(range(60, 0, -1)), 600.0) == 0.0
    assert line((7,) * 40, 100.0) == pytest.approx(7)
    holes = tuple(None if at % 3 == 0 else at + 1 for at in range(60))
    assert line(holes, 30.0) == pytest.approx(90.5)


def test_too_few_counts_make_no_line() -> None:
    assert line((10, 20, None, 30), 1000.0) == 20
    assert line((None, None), 5.0) == 0.0


def test_trend_looks_as_far_as_a_replica_takes() -> None:
    rising = tuple(range(1, 121))  # one more each second, 120 now
    # 3 s of start delay and a tick of 2: 120 + 0.5 + 5 = 125.5 -> 2; 60 s: 182.5 / 85 = 2.1 -> 3.
    assert Trend(headroom=0.0).decide(seen(0, rising)).wanted == 2
    assert Trend(headroom=0.0).decide(seen(0, rising, start_delay_s=60.0)).wanted == 3


def told(*rates: float) -> ForecastView:
    horizons = tuple(10.0 * at for at in range(len(rates)))
    return ForecastView(T0, 10.0, horizons, (0.5, 0.9), tuple((rate, rate + 85) for rate in rates))


def test_foresight_wants_the_peak_until_a_start_would_be_over() -> None:
    view = told(80, 80, 80, 300, 80, 80)
    # Start delay 16 s: 1.25 x 16 + 2 = 22 s ahead, 80 + 0.2 x 220 = 124 -> 2; 30 s ahead the peak: 300 / 85 -> 4.
    assert Foresight("oracle").decide(seen(0, [], start_delay_s=16.0, forecast=view)).wanted == 2
    assert Foresight("oracle").decide(seen(0, [], start_delay_s=22.4, forecast=view)).wanted == 4
    # Ten seconds later it is nearer; after it nothing holds the replicas.
    assert Foresight("oracle").decide(seen(10, [], start_delay_s=16.0, forecast=view)).wanted == 4
    assert Foresight("oracle").decide(seen(40, [], start_delay_s=4.0, forecast=view)).wanted == 1
    assert (
        Foresight("informed", quantile=0.9).decide(seen(0, [], start_delay_s=4.0, forecast=view)).wanted == 2
    )


@pytest.mark.parametrize("policy", [Persistence(), Trend(), Foresight("oracle")])
def test_what_is_not_known_holds(policy: Persistence | Trend | Foresight) -> None:
    assert policy.decide(seen(0, [900] * 60, wanted=4, capacity_rps=None, forecast=told(9))).wanted == 4
    if not isinstance(policy, Persistence):
        assert policy.decide(seen(0, [900] * 60, wanted=4, start_delay_s=None, forecast=told(9))).wanted == 4
    if not isinstance(policy, Foresight):
        assert policy.decide(seen(0, [900] * 54 + [None] * 6, wanted=4)).wanted == 4
    else:
        assert policy.decide(seen(0, [900] * 60, wanted=4)).wanted == 4


def test_negative_headroom_is_refused() -> None:
    for policy in (Persistence, Trend):
        with pytest.raises(ValueError, match="below zero"):
            policy(headroom=-0.1)
