import numpy as np
import pytest

from services.predictor.blend import LOSS_LIMIT, Blend
from services.predictor.forecast import HORIZONS, Floats

ALL = np.array([True, True, True])


def blend(prior: tuple[float, ...] = (0.4, 0.3, 0.3)) -> Blend:
    return Blend(np.asarray(prior))


def teach(made: Blend, losses: tuple[float, ...], steps: int) -> Floats:
    for _ in range(steps):
        for horizon in range(len(HORIZONS)):
            made.learn([horizon], np.asarray(losses)[:, None], np.asarray(losses[:1]))
    return made.weights(ALL)


def test_without_evidence_the_prior_holds() -> None:
    np.testing.assert_allclose(blend().weights(ALL), np.tile([[0.4], [0.3], [0.3]], len(HORIZONS)))


def test_the_better_one_gets_the_weight_at_every_horizon() -> None:
    weights = teach(blend(), (1.0, 0.8, 1.0), 200)
    assert (weights[1] > 0.8).all()
    np.testing.assert_allclose(weights.sum(axis=0), 1.0)


def test_equal_ones_keep_their_shares() -> None:
    np.testing.assert_allclose(teach(blend(), (1.0, 1.0, 1.0), 200)[:, 0], [0.4, 0.3, 0.3])


def test_whom_the_series_leaves_loses_the_lead_within_ten_steps() -> None:
    made = blend()
    assert (teach(made, (1.0, 0.7, 1.0), 300)[1] > 0.95).all()
    assert (teach(made, (1.0, 3.0, 1.0), 10)[1, :3] < 0.5).all()


def test_one_unlucky_step_takes_no_lead() -> None:
    made = blend()
    teach(made, (1.0, 0.7, 1.0), 300)
    assert (teach(made, (1.0, 3.0, 1.0), 1)[1] > 0.5).all()


def test_who_is_not_asked_has_no_weight_and_what_is_not_a_number_teaches_nothing() -> None:
    made = blend()
    weights = teach(made, (1.0, float("nan"), 0.8), 50)
    assert np.isfinite(weights).all()
    there = made.weights(np.array([True, False, True]))
    assert (there[1] == 0).all()
    np.testing.assert_allclose(there.sum(axis=0), 1.0)


def test_one_crash_counts_for_a_few_usual_losses_only() -> None:
    mild, wild = blend(), blend()
    for made, loss in ((mild, LOSS_LIMIT + 1), (wild, 1e9)):
        teach(made, (1.0, 1.0, 1.0), 50)
        made.learn([0], np.array([[1.0], [loss], [1.0]]), np.array([1.0]))
    np.testing.assert_allclose(mild.weights(ALL), wild.weights(ALL), rtol=0.02)


@pytest.mark.parametrize("loss", [0.0])
def test_a_constant_series_without_any_loss_is_no_division_by_zero(loss: float) -> None:
    assert np.isfinite(teach(blend(), (loss, loss, loss), 20)).all()
