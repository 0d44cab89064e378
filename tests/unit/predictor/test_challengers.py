"""AR, exponential smoothing and the seasonal one: what each has to know, and what must not break it."""

from collections.abc import Callable

import numpy as np
import pytest

from services.predictor import ar, ets
from services.predictor.ar import Ar
from services.predictor.ets import Ets
from services.predictor.forecast import HORIZONS, QUANTILES, ColdStart, Floats, Origins
from services.predictor.seasonal import Seasonal
from services.predictor.seasons import Seasons
from services.predictor.spread import Points, WithSpread

RNG = np.random.default_rng(9)
AHEAD = np.asarray(HORIZONS)
MAKERS: dict[str, Callable[[], Points]] = {
    "ar": Ar,
    "ets": Ets,
    "seasonal": lambda: Seasonal(Seasons()),
}


def said(points: Points, history: Floats) -> Floats:
    """Points of a single origin, [horizon]."""
    return np.asarray(points.points(Origins.one(history, 1.0, float(len(history))))[0])


def run(points: Points, series: Floats, first: int = 100) -> Floats:
    """Points for each origin from `first` on, [origin, horizon]."""
    return np.stack([said(points, series[:end]) for end in range(first, len(series) - max(HORIZONS) + 1)])


def ratio(points: Points, series: Floats, first: int = 100) -> Floats:
    """MAE over that of the last value, at each horizon."""
    answers = run(points, series, first)
    ends = first + np.arange(len(answers))
    came = series[ends[:, None] + AHEAD - 1]
    last = series[ends - 1][:, None]
    return np.asarray(np.abs(answers - came).mean(axis=0) / np.abs(last - came).mean(axis=0))


def test_ar_knows_an_alternation() -> None:
    series = np.where(np.arange(400) % 2 == 0, 100.0, 20.0) * RNG.uniform(0.9, 1.1, 400)
    assert (ratio(Ar(), series)[[0, 2, 3]] < 0.3).all()


def test_ar_does_not_beat_a_random_walk_nor_lose_much_to_it() -> None:
    walk = 1000 * np.exp(np.cumsum(RNG.normal(0, 0.02, 1500)))
    assert (ratio(Ar(), walk, 300) < 1.15).all()


def test_smoothing_takes_the_mean_of_noise_and_the_slope_of_a_ramp() -> None:
    assert (ratio(Ets(), RNG.poisson(50, 500).astype(float)) < 0.85).all()
    ramp = np.arange(400) * 5.0 + 100 + RNG.normal(0, 3, 400)
    assert ratio(Ets(), ramp)[-1] < 0.5


def test_smoothing_is_the_recursion_of_holt() -> None:
    """The matrix against the method written out, for a damped trend."""
    alpha, beta, phi = 0.35, 0.2, 0.8
    method = ets.LEVELS.index(alpha) * len(ets.TRENDS) + ets.TRENDS.index((beta, phi))
    log = RNG.normal(0, 1, ets.MEMORY)
    log[0] = 0.0
    level = trend = 0.0
    for value in log:
        before = level
        level = alpha * value + (1 - alpha) * (level + phi * trend)
        trend = beta * (level - before) + (1 - beta) * phi * trend
    holt = [level + trend * sum(phi**i for i in range(1, h + 1)) for h in HORIZONS]
    np.testing.assert_allclose(Ets()._bank[method] @ log, holt, rtol=1e-9)


def test_the_seasonal_one_foretells_bursts_and_is_cold_without_a_period() -> None:
    series = RNG.poisson(40 + 300 * (np.arange(30 * 14) % 30 < 3)).astype(float)
    assert ratio(Seasonal(Seasons()), series, 200).mean() < 0.6
    with pytest.raises(ColdStart, match="period"):
        run(Seasonal(Seasons()), RNG.poisson(40, 300).astype(float))


@pytest.mark.parametrize(("maker", "least"), [(Ar, ar.LEAST), (Ets, ets.LEAST)])
def test_too_little_history_is_a_cold_start(maker: Callable[[], Points], least: int) -> None:
    with pytest.raises(ColdStart, match=str(least)):
        said(maker(), np.ones(least - 1))
    assert np.isfinite(said(maker(), np.ones(least))).all()


@pytest.mark.parametrize("maker", [Ar, Ets])
@pytest.mark.parametrize(
    "kind", ["zeros", "constant", "gap", "shift up", "shift down", "burst", "first ever", "huge"]
)
def test_nothing_that_comes_out_is_nan_negative_or_wild(maker: Callable[[], Points], kind: str) -> None:
    series = RNG.poisson(50, 200).astype(float)
    if kind == "zeros":
        series[:] = 0
    elif kind == "constant":
        series[:] = 17
    elif kind == "gap":
        series[120:160] = np.nan
    elif kind == "shift up":
        series[150:] *= 10
    elif kind == "shift down":
        series[150:] = 2
    elif kind == "burst":
        series[140] = 1e7
    elif kind == "first ever":
        series[:-1] = 0
    else:
        series *= 1e12
    points = maker()
    for end in range(60, 201):
        if np.isfinite(series[end - 1]):
            last = said(points, series[:end])
            assert np.isfinite(last).all()
            assert (last >= 0).all()
            assert last.max() <= 10 * np.nanmax(series[:end]) + 1e-9
    if kind in ("zeros", "constant"):
        np.testing.assert_allclose(last, series[-1], atol=1e-6)


def test_a_level_shift_of_ten_is_believed() -> None:
    series = np.r_[RNG.poisson(100, 150), RNG.poisson(1000, 40)].astype(float)
    for maker in (Ar, Ets):
        assert run(maker(), series, 179)[-1] == pytest.approx(1000, rel=0.25)


def test_quantiles_are_those_of_its_own_errors() -> None:
    series = RNG.poisson(100, 1500).astype(float)
    forecaster = WithSpread(Ets())
    covered = []
    for end in range(50, 1500):
        row = forecaster.forecast(series[:end], 1.0, float(end)).rates_rps[0]
        covered.append(series[end] <= row[QUANTILES.index(0.95)])
    assert np.mean(covered[300:]) == pytest.approx(0.95, abs=0.015)


def test_with_few_errors_the_spread_is_persistences() -> None:
    series = RNG.poisson(100, 60).astype(float)
    forecast = WithSpread(Ets()).forecast(series, 1.0, 60.0)
    assert forecast.model == "ets"
    assert forecast.rates_rps[0, -1] > forecast.rates_rps[0, 2] + 10


@pytest.mark.parametrize("name", ["ar", "ets"])
def test_the_same_calls_give_the_same_points(name: str) -> None:
    series = RNG.poisson(100, 300).astype(float)
    np.testing.assert_array_equal(run(MAKERS[name](), series), run(MAKERS[name](), series))


def test_ar_knows_the_last_step_as_it_knows_all_others() -> None:
    for steps in (ar.LEAST, 100, ar.SPAN, 400):
        log = RNG.normal(0, 1, (3, steps))
        for row, last in zip(log, ar._last_regressors(log), strict=True):
            np.testing.assert_allclose(last, ar._regressors(row[-ar.SPAN :])[-1], rtol=1e-12)
