import numpy as np
import pytest

from services.predictor.forecast import HORIZONS, QUANTILES, Forecast, merged


def forecast(counts: np.ndarray | None = None) -> Forecast:
    if counts is None:
        counts = np.outer(np.asarray(HORIZONS, float), np.linspace(60, 120, len(QUANTILES)))
    history = np.array([np.nan, 30.0, 60.0])
    return Forecast.from_counts(
        counts, model="test", history=history, step_s=60.0, now=1000.0, compute_ms=0.1
    )


def test_counts_become_rates_with_level_and_horizons_in_seconds() -> None:
    made = forecast()
    assert made.level_rps == 1.0
    assert made.horizons_s == (60, 120, 180, 300, 600)
    assert made.history_steps == 2
    assert made.rates_rps[0, 0] == pytest.approx(1.0)
    assert made.rates_rps[-1, -1] == pytest.approx(20.0)


def test_at_gives_the_table_and_interpolates_in_both_directions() -> None:
    made = forecast()
    assert made.at(60, 0.05) == pytest.approx(made.rates_rps[0, 0])
    assert made.at(180, 0.9) == pytest.approx(made.rates_rps[2, 4])
    halfway = (made.at(300, 0.5) + made.at(600, 0.5)) / 2
    assert made.at(450, 0.5) == pytest.approx(halfway)
    assert made.at(60, 0.625) == pytest.approx((made.rates_rps[0, 2] + made.rates_rps[0, 3]) / 2)


def test_at_holds_the_nearest_outside_of_the_table() -> None:
    made = forecast()
    assert made.at(0, 0.5) == made.at(60, 0.5)
    assert made.at(86_400, 0.5) == made.at(600, 0.5)
    assert made.at(60, 1.0) == made.at(60, 0.99)
    assert made.at(60, 0.0) == made.at(60, 0.05)


@pytest.mark.parametrize(("horizon", "quantile"), [(-1, 0.5), (float("nan"), 0.5), (60, 1.1), (60, -0.1)])
def test_at_refuses_what_has_no_meaning(horizon: float, quantile: float) -> None:
    with pytest.raises(ValueError, match=r"horizon|quantile"):
        forecast().at(horizon, quantile)


def test_quantiles_are_put_in_order_and_kept_above_zero() -> None:
    rng = np.random.default_rng(0)
    made = forecast(rng.normal(0, 100, (len(HORIZONS), len(QUANTILES))))
    assert (np.diff(made.rates_rps, axis=1) >= 0).all()
    assert (made.rates_rps >= 0).all()


def test_a_forecast_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        forecast().model = "other"  # type: ignore[misc]


def test_near_horizons_of_a_finer_forecast_go_before_those_of_the_usual_one() -> None:
    counts = np.ones((len(HORIZONS), len(QUANTILES)))
    fine = Forecast.from_counts(
        counts, model="fine", history=np.ones(3), step_s=10.0, now=1000.0, compute_ms=0.1
    )
    made = merged(fine, forecast())
    assert made.horizons_s == (10, 20, 30, 50, 60, 120, 180, 300, 600)
    assert (made.model, made.step_s) == ("test", 60)
    assert made.at(10, 0.5) == pytest.approx(0.1)
    assert made.at(60, 0.05) == pytest.approx(1.0)


def test_forecasts_of_two_instants_are_not_merged() -> None:
    counts = np.ones((len(HORIZONS), len(QUANTILES)))
    old = Forecast.from_counts(
        counts, model="fine", history=np.ones(3), step_s=10.0, now=990.0, compute_ms=0.1
    )
    with pytest.raises(ValueError, match="merged"):
        merged(old, forecast())
