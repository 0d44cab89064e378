"""What goes out, with the network and all challengers, on series that break forecasters. A promise, and its twin."""

import json

import numpy as np
import pytest

from services.predictor.champion import Champion
from services.predictor.features import GROWTH_LIMIT
from services.predictor.forecast import ColdStart, Floats, Forecast
from services.predictor.served import served

T = 1_800_000_000.0


def play(series: Floats, first: int = 1, champion: Champion | None = None) -> list[Forecast]:
    """Forecast after each step from `first` on of which the last one is known, as a service would."""
    champion = champion or served()
    return [
        champion.forecast(series[:end], 60.0, T + 60.0 * end)
        for end in range(first, len(series) + 1)
        if np.isfinite(series[end - 1])
    ]


def poisson(mean: float, steps: int, seed: int = 1) -> Floats:
    return np.random.default_rng(seed).poisson(mean, steps).astype(float)


def sound(forecasts: list[Forecast], most_rps: float) -> None:
    for forecast in forecasts:
        assert np.isfinite(forecast.rates_rps).all()
        assert (forecast.rates_rps >= 0).all()
        assert (np.diff(forecast.rates_rps, axis=1) >= 0).all()
        assert forecast.rates_rps.max() <= GROWTH_LIMIT * most_rps + 1


def test_it_answers_from_the_first_step_on_and_not_without_one() -> None:
    forecasts = play(poisson(600, 40))
    assert forecasts[0].model == "persistence"
    assert forecasts[-1].model != "persistence"
    sound(forecasts, 20)
    with pytest.raises(ColdStart):
        served().forecast(np.full(3, np.nan), 60.0, T)


def test_zeros_are_forecast_as_zeros_and_traffic_after_them_is_believed() -> None:
    series = np.r_[np.zeros(80), poisson(600, 15)]
    forecasts = play(series, 40)
    sound(forecasts, 12)
    assert forecasts[40].rates_rps.max() < 0.01
    assert forecasts[-1].at(60, 0.5) == pytest.approx(10, rel=0.3)
    assert forecasts[-1].at(600, 0.95) < 60  # that it came from nothing is no sign that it will grow so again


def test_a_gap_is_no_fall_to_zero() -> None:
    series = poisson(600, 140)
    series[100:120] = np.nan
    forecasts = play(series, 60)
    sound(forecasts, 12)
    assert all(8 < forecast.at(60, 0.5) < 12 for forecast in forecasts)
    quiet = poisson(600, 140)
    quiet[100:120] = 0  # the twin: requests that did stay away are believed
    assert play(quiet[:119], 118)[-1].at(60, 0.5) < 3


@pytest.mark.parametrize("factor", [10.0, 0.1])
def test_a_level_shift_of_ten_is_followed_within_a_few_steps(factor: float) -> None:
    series = np.r_[poisson(600, 150), poisson(600 * factor, 12, seed=2)]
    forecasts = play(series, 100)
    sound(forecasts, 10 * max(factor, 1))
    assert forecasts[-1].at(60, 0.5) == pytest.approx(10 * factor, rel=0.35)
    assert forecasts[49].at(60, 0.5) == pytest.approx(10, rel=0.2)  # and not before it has come


def test_one_outlier_is_not_believed_for_long() -> None:
    series = poisson(600, 160)
    series[150] *= 50
    forecasts = play(series, 140)
    sound(forecasts, 500)
    assert forecasts[-1].at(60, 0.5) < 20


@pytest.mark.parametrize("jump_s", [-7200.0, -30.0, 7200.0])
def test_a_clock_that_jumps_breaks_nothing(jump_s: float) -> None:
    series = poisson(600, 160)
    champion = served()
    for end in range(100, 130):
        champion.forecast(series[:end], 60.0, T + 60.0 * end)
    forecasts = [champion.forecast(series[:end], 60.0, T + jump_s + 60.0 * end) for end in range(130, 161)]
    sound(forecasts, 12)
    assert all(8 < forecast.at(60, 0.5) < 12 for forecast in forecasts)
    assert forecasts[-1].issued_at == T + jump_s + 60.0 * 160


def test_the_same_instant_twice_is_answered_twice_and_learned_once() -> None:
    series = poisson(600, 150)
    once, twice = served(), served()
    for end in range(100, 151):
        now = T + 60.0 * end
        one = once.forecast(series[:end], 60.0, now)
        two = twice.forecast(series[:end], 60.0, now)
        again = twice.forecast(series[:end], 60.0, now)
        np.testing.assert_array_equal(one.rates_rps, two.rates_rps)
        np.testing.assert_array_equal(two.rates_rps, again.rates_rps)


def test_bursts_of_each_half_hour_are_seen_coming_and_random_ones_are_not() -> None:
    rng = np.random.default_rng(3)
    regular = rng.poisson(600 + 3000 * (np.arange(421) % 30 < 3)).astype(float)
    # After 420 steps the next one, and no sign of it yet, is a burst's first.
    assert play(regular[:420], 360)[-1].at(60, 0.5) > 30
    starts = rng.choice(400, 14, replace=False)
    random = rng.poisson(
        600 + 3000 * np.isin(np.arange(420), [s + i for s in starts for i in range(3)])
    ).astype(float)
    random[410:] = 600
    assert play(random, 360)[-1].at(60, 0.5) < 20


def test_a_history_k_times_as_large_gives_a_forecast_k_times_as_large() -> None:
    series = poisson(600, 130)
    small, large = play(series, 100)[-1], play(series * 1000, 100)[-1]
    np.testing.assert_allclose(large.rates_rps, small.rates_rps * 1000, rtol=0.02)


def test_after_a_restart_it_knows_the_rhythm_that_its_history_is_too_short_for() -> None:
    rng = np.random.default_rng(4)
    series = rng.poisson(600 + 3000 * (np.arange(1000) % 200 < 20)).astype(float)
    now = T + 60.0 * len(series)  # a burst's first step is to come
    before = served()
    before.forecast(series, 60.0, now)
    saved = json.loads(json.dumps(before.dump()))
    restarted, forgetful = served(), served()
    assert restarted.restore(saved, 60.0, now + 2)
    sound([one.forecast(series[-150:], 60.0, now) for one in (restarted, forgetful)], 60)
    assert restarted.answers["seasonal"].at(180, 0.5) > 20
    assert restarted.answers["lstm"].at(180, 0.5) > 1.5 * forgetful.answers["lstm"].at(180, 0.5)
    assert "seasonal" not in forgetful.answers
    assert not served().restore(saved | {"fine": "many"}, 60.0, now + 2)
