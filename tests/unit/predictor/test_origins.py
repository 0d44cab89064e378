import numpy as np
import pytest

from services.predictor.forecast import HORIZONS, Origins
from services.predictor.linear import between, places
from services.predictor.origins import Ledger, Settled, count_ending, rounds


def test_an_outcome_between_two_windows_is_read_between_them() -> None:
    history = np.array([10.0, 20.0, 40.0])
    assert count_ending(history, 60.0, 1000.0, 1000.0) == 40
    assert count_ending(history, 60.0, 1000.0, 940.0) == 20
    assert count_ending(history, 60.0, 1000.0, 970.0) == 30


@pytest.mark.parametrize("at", [1001.0, 700.0])
def test_an_outcome_that_is_to_come_or_forgotten_is_unknown(at: float) -> None:
    assert np.isnan(count_ending(np.ones(3), 60.0, 1000.0, at))


def test_each_horizon_is_settled_once_when_its_step_has_ended() -> None:
    ledger: Ledger[str] = Ledger()
    series = np.arange(100.0)
    assert ledger.settle(series[:50], 1.0, 50.0) == []
    ledger.keep(50.0, "said")
    found = []
    for end in range(51, 62):
        found += [(one.horizon, one.outcome) for one in ledger.settle(series[:end], 1.0, float(end))]
    assert found == [(index, 50.0 + horizon - 1) for index, horizon in enumerate(HORIZONS)]


def test_once_a_step_is_kept_however_often_it_is_asked() -> None:
    ledger: Ledger[int] = Ledger()
    ledger.settle(np.ones(3), 60.0, 0.0)
    for at in range(0, 121, 2):
        ledger.settle(np.ones(9), 60.0, float(at))
        ledger.keep(float(at), at)
    assert [said for _, said, _ in ledger._kept] == [0, 60, 120]


@pytest.mark.parametrize(("step_s", "now"), [(2.0, 51.0), (1.0, 10.0)])
def test_another_step_and_a_clock_set_back_forget_what_was_said(step_s: float, now: float) -> None:
    ledger: Ledger[str] = Ledger()
    ledger.settle(np.ones(50), 1.0, 50.0)
    ledger.keep(50.0, "said")
    assert ledger.settle(np.ones(50), step_s, now) == []
    assert not ledger._kept


def test_after_a_gap_outcomes_that_nobody_saw_are_dropped() -> None:
    ledger: Ledger[str] = Ledger()
    ledger.settle(np.ones(50), 1.0, 50.0)
    ledger.keep(50.0, "said")
    history = np.r_[np.ones(50), np.full(9, np.nan), 7.0]
    assert [(one.horizon, one.outcome) for one in ledger.settle(history, 1.0, 60.0)] == [(4, 7.0)]
    assert not ledger._kept


def test_outcomes_that_are_learned_from_at_once_hold_a_horizon_once() -> None:
    settled = [Settled(horizon, "said", 1.0) for horizon in (4, 0, 1, 0, 2, 0)]
    assert [[one.horizon for one in part] for part in rounds(settled)] == [[4, 0, 1], [0, 2], [0]]
    assert list(rounds([])) == []


@pytest.mark.parametrize(
    ("histories", "nows", "said"),
    [
        (np.ones((2, 5)), (0.0,), "one row for each"),
        (np.ones(5), (0.0,), "one row for each"),
        (np.ones((2, 5)), (0.0, 60.0), "within one step"),
        (np.ones((2, 5)), (10.0, 0.0), "within one step"),
        (np.array([[1.0, 2.0], [np.nan, 2.0]]), (0.0, 10.0), "without gaps"),
    ],
)
def test_origins_that_cannot_be_forecast_at_once_are_refused(
    histories: np.ndarray, nows: tuple[float, ...], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        Origins(histories, 60.0, nows)


def test_values_are_read_between_the_points_of_a_grid() -> None:
    rows, at = np.random.default_rng(1).normal(0, 1, (3, 20)), np.linspace(-2.0, 22.0, 97)
    for row, read in zip(rows, between(rows, places(20, at)), strict=True):
        np.testing.assert_array_equal(read, np.interp(at, np.arange(20), row))
