import numpy as np

from services.predictor.forecast import QUANTILES
from services.predictor.scores import MEDIAN_WEIGHT, loss, pinball

ROW = np.array([80.0, 90.0, 100.0, 110.0, 118.0, 122.0, 130.0])


def test_forecasters_are_told_apart_by_their_quantiles_and_the_more_by_their_median() -> None:
    moved = ROW + np.where(np.asarray(QUANTILES) == 0.5, 5.0, 0.0)
    outcome = np.array([70.0])
    worse, usual = (loss(row[None], outcome) - pinball(row[None], outcome) for row in (moved, ROW))
    median = 0.5 * (105.0 - 100.0)
    np.testing.assert_allclose(worse - usual, (MEDIAN_WEIGHT - 1) * median / len(QUANTILES))


def test_a_loss_is_zero_only_where_everything_was_right() -> None:
    right = np.full((1, len(QUANTILES)), 42.0)
    assert loss(right, np.array([42.0])) == 0
    assert loss(ROW[None], np.array([100.0])) > 0
