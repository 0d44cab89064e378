import numpy as np
import pytest

from services.predictor.calibration import LIMIT, Calibration
from services.predictor.forecast import HORIZONS, QUANTILES, Floats

Z = np.array([-1.645, -0.674, 0.0, 0.674, 1.282, 1.645, 2.326])


def cover(rows: Floats, outcomes: Floats, skip: int = 300) -> Floats:
    """Share of outcomes at or below each quantile at the first horizon, after `skip` of them."""
    calibration = Calibration()
    below = []
    for outcome in outcomes:
        said = calibration.apply(rows)
        below.append(outcome <= said[0])
        calibration.learn([0], rows[:1], np.array([float(outcome)]))
    return np.asarray(np.mean(below[skip:], axis=0))


@pytest.mark.parametrize("width", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("shift", [-10.0, 0.0, 10.0])
def test_quantiles_come_to_cover_what_they_say(width: float, shift: float) -> None:
    rows = np.tile(100 + shift + 10 * width * Z, (len(HORIZONS), 1))
    outcomes = np.random.default_rng(0).normal(100, 10, 4000)
    covered = cover(rows, outcomes, skip=1500)
    np.testing.assert_allclose(covered, QUANTILES, atol=0.06)
    assert covered[QUANTILES.index(0.95)] == pytest.approx(0.95, abs=0.02)


def test_right_ones_are_left_nearly_alone() -> None:
    rows = np.tile(100 + 10 * Z, (len(HORIZONS), 1))
    calibration = Calibration()
    for outcome in np.random.default_rng(1).normal(100, 10, 2000):
        calibration.learn([0], rows[:1], np.array([float(outcome)]))
    assert np.abs(calibration.apply(rows)[0] - rows[0]).max() < 6
    # What nobody has seen is not moved.
    np.testing.assert_array_equal(calibration.offsets[1:], Calibration().offsets[1:])


def test_a_series_that_grows_wilder_is_covered_again() -> None:
    rows = np.tile(100 + 10 * Z, (len(HORIZONS), 1))
    rng = np.random.default_rng(2)
    outcomes = np.r_[rng.normal(100, 10, 1000), rng.normal(100, 30, 2000)]
    assert cover(rows, outcomes, skip=1600)[QUANTILES.index(0.95)] == pytest.approx(0.95, abs=0.025)


def test_a_constant_series_moves_nothing_far() -> None:
    rows = np.full((len(HORIZONS), len(QUANTILES)), 40.0)
    calibration = Calibration()
    for _ in range(500):
        calibration.learn([0], rows[:1], np.array([40.0]))
    np.testing.assert_allclose(calibration.apply(rows), 40.0, rtol=5e-3)


def test_offsets_are_bounded_and_rows_stay_in_order_and_above_zero() -> None:
    rows = np.tile(5 + Z, (len(HORIZONS), 1))
    calibration = Calibration()
    for _ in range(5000):
        calibration.learn([0], rows[:1], np.array([1e9]))
    assert calibration.offsets.max() <= LIMIT
    for _ in range(9000):
        calibration.learn([0], rows[:1], np.array([0.0]))
    said = calibration.apply(rows)
    assert (said >= 0).all()
    assert (np.diff(said, axis=1) >= 0).all()


def test_a_new_one_is_careful_the_more_the_farther_it_looks() -> None:
    rows = np.tile(100 + 10 * Z, (len(HORIZONS), 1))
    said = Calibration().apply(rows)
    high = said[:, QUANTILES.index(0.95)]
    assert rows[0, QUANTILES.index(0.95)] < high[0] < rows[0, QUANTILES.index(0.95)] + 0.4 * 6.74
    assert (np.diff(high) > 0).all()
    np.testing.assert_allclose(said[:, QUANTILES.index(0.5)], 100)
