import numpy as np
import pytest

from services.predictor.forecast import HORIZONS, QUANTILES, ColdStart
from services.predictor.persistence import FEW, Persistence, persist


def test_quantiles_are_those_of_own_past_changes() -> None:
    rng = np.random.default_rng(1)
    history = 500 + np.cumsum(rng.normal(0, 5, 200))
    rows = persist(history)
    changes = history[5:] - history[:-5]
    np.testing.assert_allclose(rows[3], history[-1] + np.quantile(changes, QUANTILES))


def test_the_first_second_is_enough_to_answer() -> None:
    forecast = Persistence().forecast(np.array([9.0]), 1.0, 0.0)
    assert forecast.model == "persistence"
    assert forecast.at(1, 0.5) == pytest.approx(9.0)
    assert forecast.at(1, 0.95) > 12.0
    assert (np.diff(forecast.rates_rps, axis=1) >= 0).all()


@pytest.mark.parametrize("length", [2, 3, 5, FEW, FEW + 3, 40])
def test_short_histories_have_ordered_finite_quantiles_that_widen(length: int) -> None:
    history = np.random.default_rng(length).poisson(30, length).astype(float)
    rows = Persistence().forecast(history, 1.0, 0.0).rates_rps
    assert np.isfinite(rows).all()
    assert (np.diff(rows, axis=1) >= 0).all()
    if length <= FEW:
        assert rows[-1, -1] >= rows[0, -1] > history[-1]


@pytest.mark.parametrize("known", [2, 3, 5, 9])
def test_a_few_steps_are_enough_to_cover_what_a_random_walk_does(known: int) -> None:
    rng = np.random.default_rng(known)
    walks = 20_000 + np.cumsum(rng.normal(0, 500, (3000, known + max(HORIZONS))), axis=1)
    rows = persist(walks[:, :known])
    for at, horizon in enumerate(HORIZONS):
        covered = (walks[:, known + horizon - 1] <= rows[:, at, QUANTILES.index(0.95)]).mean()
        assert 0.92 <= covered <= 0.98


def test_series_side_by_side_are_what_they_are_alone() -> None:
    for known in (1, 2, 7, 30):
        series = np.random.default_rng(known).poisson(50, (9, known)).astype(float)
        np.testing.assert_array_equal(persist(series), np.stack([persist(one[None])[0] for one in series]))


def test_no_known_step_is_a_cold_start() -> None:
    for history in (np.empty(0), np.full(5, np.nan)):
        with pytest.raises(ColdStart):
            Persistence().forecast(history, 1.0, 0.0)


def test_gaps_are_no_changes() -> None:
    history = np.full(120, 50.0)
    history[40:60] = np.nan
    history[100:] = np.nan
    np.testing.assert_allclose(persist(history), 50.0)


def test_zeros_and_constants_stay() -> None:
    assert (persist(np.zeros(100)) == 0).all()
    assert (persist(np.full(100, 7.0)) == 7).all()
    assert persist(np.zeros(100)).shape == (len(HORIZONS), len(QUANTILES))
