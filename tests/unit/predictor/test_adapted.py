import numpy as np
import pytest

from services.predictor.adapted import REFRESH, Adapted
from services.predictor.forecast import HORIZONS, ColdStart, Floats
from services.predictor.lstm import Lstm
from services.predictor.seasons import Seasons

MEDIAN = 2


def play(series: Floats, first: int = 60) -> tuple[Floats, Floats]:
    """Medians one step ahead of the network and of the network adapted, for each origin from `first` on."""
    lstm = Lstm()
    adapted = Adapted(lstm)
    plain, moved = [], []
    for end in range(first, len(series)):
        history = series[:end]
        plain.append(lstm.forecast(history, 1.0, float(end)).rates_rps[0, MEDIAN])
        moved.append(adapted.forecast(history, 1.0, float(end)).rates_rps[0, MEDIAN])
    return np.array(plain), np.array(moved)


def test_it_learns_a_habit_of_the_series_that_the_network_does_not_know() -> None:
    rng = np.random.default_rng(3)
    # Every second step is a pause: nothing like it was in the training.
    series = np.where(np.arange(1200) % 2 == 0, 100.0, 20.0) * rng.uniform(0.95, 1.05, 1200)
    plain, moved = play(series)
    came = series[60:]
    errors = [np.abs(said - came)[600:].mean() for said in (plain, moved)]
    assert errors[1] < 0.9 * errors[0]


def test_it_knows_the_time_of_day_before_a_day_can_be_found() -> None:
    steps, noise = np.arange(345), np.random.default_rng(7)  # of ten minutes: 2.4 days
    series = noise.poisson(200 * np.exp(0.8 * np.sin(2 * np.pi * steps / 144))).astype(float)
    came = series[160:]  # the second day on
    errors = []
    for step_s in (600.0, 1.0):  # in steps of a second the clock stands still
        adapted, said = Adapted(Lstm()), []
        for end in range(60, len(series)):
            rates = adapted.forecast(series[:end], step_s, 1e6 + end * step_s).rates_rps
            said.append(rates[-1, MEDIAN] * step_s)
        far = np.array(said)[100 : 100 + len(came) - 9]
        errors.append(np.abs(far - came[9:]).mean())
    assert errors[0] < 0.9 * errors[1]


def test_without_evidence_it_is_the_network() -> None:
    series = np.random.default_rng(4).poisson(50, 60 + REFRESH).astype(float)
    plain, moved = play(series)
    np.testing.assert_allclose(moved[:1], plain[:1])


def test_on_noise_it_is_hardly_worse_than_the_network() -> None:
    series = np.random.default_rng(5).poisson(50, 900).astype(float)
    plain, moved = play(series)
    errors = [np.abs(said - series[60:]).mean() for said in (plain, moved)]
    assert errors[1] < 1.03 * errors[0]


def test_a_flash_crowd_does_not_own_the_readout() -> None:
    series = np.random.default_rng(6).poisson(50, 500).astype(float)
    series[250:260] = 50_000
    plain, moved = play(series)
    late = slice(300, None)
    assert np.isfinite(moved).all()
    assert np.abs(moved - series[60:])[late].mean() < 1.1 * np.abs(plain - series[60:])[late].mean()


def test_it_is_cold_when_the_network_is() -> None:
    with pytest.raises(ColdStart):
        Adapted(Lstm()).forecast(np.ones(5), 1.0, 0.0)


def test_a_gap_is_no_outcome() -> None:
    series = np.random.default_rng(7).poisson(50, 300).astype(float)
    series[150:170] = np.nan
    adapted = Adapted(Lstm(seasons=Seasons()))
    for end in range(100, 300):
        if np.isfinite(series[end - 1]):
            forecast = adapted.forecast(series[:end], 1.0, float(end))
            assert np.isfinite(forecast.rates_rps).all()
            assert forecast.rates_rps.shape[0] == len(HORIZONS)
