import numpy as np
import pytest

from services.predictor.features import CONTEXT, FEATURE_LIMIT, GROWTH_LIMIT, LAGS, encode
from services.predictor.lstm import Lstm
from services.predictor.seasons import Outlook

RNG = np.random.default_rng(3)
SERIES = {
    "noisy": RNG.poisson(40, LAGS).astype(float),
    "sparse": (RNG.random(LAGS) < 0.1).astype(float),
    "zeros": np.zeros(LAGS),
    "constant": np.full(LAGS, 17.0),
    "shift up": np.r_[np.full(LAGS - 2, 10.0), 100.0, 100.0],
    "shift down": np.r_[np.full(LAGS - 2, 1000.0), 100.0, 100.0],
    "one burst long ago": np.r_[1e6, np.zeros(LAGS - 1)],
    "first request ever": np.r_[np.zeros(LAGS - 1), 1.0],
    "gap in the middle": np.r_[np.full(20, 5.0), np.full(20, np.nan), np.full(20, 6.0)],
    "gap at the end": np.r_[RNG.poisson(40, LAGS - 5), np.full(5, np.nan)],
    "short": np.r_[np.full(LAGS - 12, np.nan), RNG.poisson(9, 12)],
    "negative": np.r_[RNG.poisson(40, LAGS - 1), -5.0],
    "huge": RNG.poisson(40, LAGS) * 1e12,
    "tiny": RNG.poisson(40, LAGS) * 1e-9,
}


@pytest.mark.parametrize("name", SERIES)
def test_nothing_that_comes_out_is_nan_negative_or_out_of_order(name: str, lstm: Lstm) -> None:
    series = SERIES[name]
    encoded = encode(series[None])
    for part in (encoded.window, encoded.context, encoded.level, encoded.scale, encoded.last):
        assert np.isfinite(part).all()
    forecast = lstm.forecast(series, 1.0, 0.0)
    assert np.isfinite(forecast.rates_rps).all()
    assert (forecast.rates_rps >= 0).all()
    assert (np.diff(forecast.rates_rps, axis=1) >= 0).all()
    assert forecast.rates_rps.max() <= GROWTH_LIMIT * max(np.nanmax(series), 0.0) * (1 + 1e-9)


@pytest.mark.parametrize("factor", [1e-3, 0.5, 7.0, 10_000.0])
@pytest.mark.parametrize("name", ["noisy", "sparse", "shift up", "gap in the middle", "short"])
def test_a_history_k_times_as_large_gives_a_forecast_k_times_as_large(
    name: str, factor: float, lstm: Lstm
) -> None:
    base = lstm.forecast(SERIES[name], 1.0, 0.0).rates_rps
    scaled = lstm.forecast(SERIES[name] * factor, 1.0, 0.0).rates_rps
    np.testing.assert_allclose(scaled, base * factor, rtol=2e-4, atol=1e-9 * factor)


def test_residuals_and_counts_are_inverse() -> None:
    encoded = encode(np.stack([SERIES["noisy"], SERIES["constant"], SERIES["shift up"]]))
    future = np.array([[30.0, 45.0], [17.0, 18.0], [100.0, 300.0]])
    np.testing.assert_allclose(encoded.counts(encoded.residuals(future)), future, rtol=1e-9)


def test_a_residual_of_zero_is_persistence() -> None:
    encoded = encode(SERIES["noisy"][None])
    assert encoded.counts(np.zeros((1, 1)))[0, 0] == pytest.approx(SERIES["noisy"][-1])


def test_zeros_forecast_zero() -> None:
    assert (encode(SERIES["zeros"][None]).counts(np.full((1, 3), 9.0)) == 0).all()


def test_wild_residuals_stay_bounded() -> None:
    encoded = encode(np.stack(list(SERIES.values())))
    for residual in (1e30, -1e30, 1e4):
        counts = encoded.counts(np.full((len(SERIES), 2), residual))
        assert np.isfinite(counts).all()
        assert (counts >= 0).all()


def test_a_short_history_is_unknown_before_its_start() -> None:
    short = RNG.poisson(50, 20).astype(float)
    padded = np.r_[np.full(LAGS - 20, np.nan), short]
    np.testing.assert_array_equal(encode(short[None]).window, encode(padded[None]).window)
    assert encode(short[None]).window[0, :, 2].sum() == 20


def test_a_gap_is_marked_and_is_no_zero() -> None:
    series = np.full(LAGS, 50.0)
    series[30:40] = np.nan
    window = encode(series[None]).window[0]
    assert (window[30:40, 2] == 0).all()
    assert np.abs(window[:, :2]).max() < 1e-3  # the level is the same before, in and after the gap


def test_only_the_last_lags_count() -> None:
    longer = np.r_[RNG.poisson(9999, 100), SERIES["noisy"]]
    np.testing.assert_array_equal(encode(longer[None]).window, encode(SERIES["noisy"][None]).window)


def test_histories_must_lie_side_by_side() -> None:
    with pytest.raises(ValueError, match="windows, steps"):
        encode(SERIES["noisy"])


def outlook(level: float = 40.0) -> Outlook:
    return Outlook(
        np.array([0.1, 0.2, 0.3, 0.4, 1e9]), np.log(2.0), level, 0.8, (86_400.0,), (0.6, 0.8, 0.0, 0.0)
    )


def test_what_the_periods_say_is_told_in_usual_changes_and_bounded() -> None:
    encoded = encode(SERIES["noisy"][None], [outlook()])
    said = dict(zip(CONTEXT, encoded.context[0].tolist(), strict=True))
    assert said["season_1"] == pytest.approx(0.1 / encoded.scale[0], rel=1e-5)
    assert said["season_10"] == FEATURE_LIMIT
    assert said["season_strength"] == pytest.approx(0.8)
    assert (said["long_sin"], said["long_cos"]) == pytest.approx((0.6, 0.8))


def test_no_period_known_is_zeros_and_changes_nothing_else() -> None:
    bare, told = encode(SERIES["noisy"][None]), encode(SERIES["noisy"][None], [outlook()])
    at = CONTEXT.index("season_1")
    assert (bare.context[0, at:] == 0).all()
    np.testing.assert_array_equal(bare.context[0, :at], told.context[0, :at])
    np.testing.assert_array_equal(bare.window, told.window)


def test_periods_of_a_series_k_times_as_large_say_the_same() -> None:
    small, large = (
        encode(SERIES["noisy"][None], [outlook()]),
        encode(SERIES["noisy"][None] * 9, [outlook(360.0)]),
    )
    np.testing.assert_allclose(small.context, large.context, rtol=1e-4, atol=1e-4)
