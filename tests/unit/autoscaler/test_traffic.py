"""Traffic by second from the gateways' reports, and what the loop makes of it."""

from __future__ import annotations

import random
from typing import Any

import pytest

from services.autoscaler.actuators import ReplicaStatus
from services.autoscaler.senses import Senses
from services.autoscaler.traffic import FORGET_S, TrafficHistory
from tests.unit.autoscaler.conftest import T0


def report(t: float, arrivals: int = 10, instance: str = "gateway", **fields: Any) -> dict[str, Any]:
    return {
        "t": T0 + t,
        "arrivals": arrivals,
        "answered": arrivals,
        "shed": 0,
        "failed": 0,
        "in_flight": 4,
        "p50_ms": None,
        "p95_ms": None,
        "p99_ms": None,
        "instance": instance,
    } | fields


def heard(*reports: dict[str, Any]) -> TrafficHistory:
    history = TrafficHistory(60)
    for one in reports:
        history.hear(one)
    return history


def test_seconds_in_order_however_they_come() -> None:
    history = heard(report(1, 1), report(3, 3), report(2, 2), report(3, 3), report(1, 1))
    assert history.arrivals(T0 + 3.2, 10) == (1, 2, 3)
    assert history.arrivals(T0 + 3.2, 2) == (2, 3)


def test_a_report_that_is_only_just_due_is_no_gap() -> None:
    history = heard(report(1, 1), report(2, 2))
    assert history.arrivals(T0 + 3.1, 5) == (1, 2)
    assert history.arrivals(T0 + 4.1, 5) == (1, 2, None, None)


def test_a_silent_gateway_is_a_gap_and_not_a_zero() -> None:
    history = heard(report(1), report(2), report(5))
    assert history.arrivals(T0 + 5.5, 10) == (10, 10, None, None, 10)
    assert history.answered_rps(T0 + 5.5, 1) == 10
    assert history.answered_rps(T0 + 5.5, 2) is None
    assert history.in_flight(T0 + 5.5) == 4
    assert history.in_flight(T0 + 12) == 0


def test_gateways_add_up_and_one_that_misses_makes_a_gap() -> None:
    history = heard(report(1, 1), report(1, 5, "b"), report(2, 2), report(2, 6, "b"), report(3, 3))
    assert history.arrivals(T0 + 3.5, 5) == (6, 8, None)
    # Gone for good: after ten seconds it is not waited for any more.
    for second in range(4, 20):
        history.hear(report(second, second))
    assert history.arrivals(T0 + 19.5, 18) == (8, *[None] * FORGET_S, *range(13, 20))


def test_jitter_neither_doubles_nor_skips_a_second() -> None:
    dice = random.Random(1)
    history = TrafficHistory(60)
    for second in range(300):
        history.hear(report(second + 0.5 + dice.uniform(-0.2, 0.2), 7))
    assert history.arrivals(T0 + 300, 60) == (7,) * 60


@pytest.mark.parametrize("jump", [-3600, -100, 100, 3600])
def test_a_clock_that_jumps_is_followed(jump: int) -> None:
    history = TrafficHistory(60)
    for second in range(30):
        history.hear(report(second))
    for second in range(30, 50):
        history.hear(report(second + jump, 20))
    assert history.arrivals(T0 + 49 + jump, 10) == (20,) * 10


@pytest.mark.parametrize(
    "fields",
    [
        {"t": "now"},
        {"t": float("nan")},
        {"t": True},
        {"arrivals": -1},
        {"arrivals": 1.5},
        {"in_flight": None},
    ],
)
def test_what_is_no_report_is_refused_and_changes_nothing(fields: dict[str, Any]) -> None:
    history = heard(report(1))
    with pytest.raises(ValueError, match="traffic"):
        history.hear(report(2) | fields)
    assert history.arrivals(T0 + 1, 5) == (10,)


def test_a_report_without_a_field_is_refused() -> None:
    with pytest.raises(KeyError, match="arrivals"):
        heard({k: v for k, v in report(1).items() if k != "arrivals"})


def test_names_cannot_fill_the_memory() -> None:
    history = TrafficHistory(60)
    with pytest.raises(ValueError, match="too many"):
        for number in range(1000):
            history.hear(report(1, 1, f"gateway-{number}"))


def status(**fields: Any) -> ReplicaStatus:
    known: dict[str, Any] = {
        "wanted": 2,
        "ready": 2,
        "starting": 0,
        "draining": 0,
        "minimum": 1,
        "maximum": 4,
        "start_delay_s": 1.5,
        "utilisation": (0.9, 0.9),
    }
    return ReplicaStatus(**(known | fields))


def senses(**fields: Any) -> Senses:
    return Senses(**({"capacity_rps": 100.0, "calm_latency_s": 0.1} | fields))


def test_the_observation_is_what_was_heard() -> None:
    ears = senses()
    for second in range(1, 11):
        ears.traffic.hear(report(second, 100, in_flight=50))
    observation = ears.observe(T0 + 10.3, status())
    assert observation.arrivals == (100,) * 10
    assert (observation.in_flight, observation.queue) == (50, 40)  # 100 req/s x 0.1 s are in flight in calm
    assert (observation.min_replicas, observation.max_replicas) == (1, 4)
    assert (observation.capacity_rps, observation.start_delay_s) == (100, 1.5)
    assert observation.forecast is None


@pytest.mark.parametrize(
    ("least", "most", "bounds"),
    [(None, None, (1, 4)), (2, 3, (2, 3)), (0, 9, (1, 4)), (6, 9, (4, 4)), (None, 2, (1, 2))],
)
def test_settings_narrow_the_actuators_bounds(
    least: int | None, most: int | None, bounds: tuple[int, int]
) -> None:
    observation = senses(min_replicas=least, max_replicas=most).observe(T0, status())
    assert (observation.min_replicas, observation.max_replicas) == bounds


def test_capacity_is_learned_only_while_nothing_changes() -> None:
    ears = senses()
    for second in range(1, 11):
        ears.traffic.hear(report(second, 270, in_flight=50))
    for other in (status(starting=1), status(draining=1), status(ready=3), status(utilisation=(0.9,))):
        ears.learn(T0 + 10, other)
        ears.learn(T0 + 10, status())
    assert ears.capacity.samples == 0
    ears.learn(T0 + 10, status())
    assert ears.capacity.samples == 1
    assert ears.capacity.rps is not None
    assert ears.capacity.rps > 100  # 270 / 2 / 0.9 = 150


def test_the_newest_forecast_is_kept() -> None:
    ears = senses()
    message = {"step_s": 2, "horizons_s": [2], "quantiles": [0.5], "rates_rps": [[1]]}
    for issued in (5, 9, 7):
        ears.hear_forecast(message | {"issued_at": T0 + issued}, T0 + 10)
    assert ears.forecast is not None
    assert ears.forecast.issued_at == T0 + 9
    # The clock was set back by an hour: the one that is known comes from the future now.
    ears.hear_forecast(message | {"issued_at": T0 - 3600}, T0 - 3599)
    assert ears.forecast.issued_at == T0 - 3600
