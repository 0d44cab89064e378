"""The measures of following the load, by hand."""

from __future__ import annotations

import time

import numpy as np
import pytest
from numpy.typing import NDArray

from lab.elasticity import elasticity, have, need, scale_out


def counts(*values: int) -> NDArray[np.int64]:
    return np.asarray(values, dtype=np.int64)


def test_need_is_the_rate_over_capacity_rounded_up_and_clamped() -> None:
    rates = np.asarray([0.0, 99.0, 100.0, 101.0, 350.0, 900.0])
    assert need(rates, 100.0, 1, 4).tolist() == [1, 1, 1, 2, 4, 4]
    assert need(rates, 100.0, 0, 9).tolist() == [0, 1, 1, 2, 4, 9]


def test_need_is_not_raised_by_rounding_error() -> None:
    assert need(np.asarray([0.1 * 3]), 0.1, 1, 9).tolist() == [3]


@pytest.mark.parametrize("capacity", [0.0, -1.0, float("nan")])
def test_need_refuses_a_capacity_that_serves_nobody(capacity: float) -> None:
    with pytest.raises(ValueError, match="capacity"):
        need(np.asarray([1.0]), capacity, 1, 2)


def test_need_refuses_crossed_limits() -> None:
    with pytest.raises(ValueError, match="minimum of 3"):
        need(np.asarray([1.0]), 1.0, 3, 2)


def test_have_is_what_was_last_seen() -> None:
    timeline = [(0.0, 1, 1), (2.0, 3, 1), (3.5, 3, 3)]
    assert have(timeline, np.arange(6.0)).tolist() == [1, 1, 1, 1, 3, 3]
    assert have(timeline[::-1], np.asarray([3.4, 3.5])).tolist() == [1, 3]


def test_have_before_the_first_entry_is_that_entry() -> None:
    assert have([(1.0, 2, 2), (2.0, 2, 4)], np.asarray([0.0, 2.0])).tolist() == [2, 4]
    with pytest.raises(ValueError, match="empty"):
        have([], np.asarray([0.0]))


def test_measures_by_hand() -> None:
    needed = counts(1, 1, 3, 3, 3, 3, 2, 2, 4, 1)
    had = counts(1, 1, 1, 1, 3, 3, 3, 2, 2, 2)
    measured = elasticity(needed, had, 1.0)
    assert measured.theta_u == pytest.approx((2 / 3 + 2 / 3 + 2 / 4) / 10)
    assert measured.theta_o == pytest.approx((1 / 2 + 1 / 1) / 10)
    assert measured.tau_u == pytest.approx(0.3)
    assert measured.tau_o == pytest.approx(0.2)
    assert measured.waste == pytest.approx(2 / 19)
    # The step to 3 waits two seconds for replicas; the step to 4 passes after one second, unmet.
    assert (measured.scale_out.up_steps, measured.scale_out.late, measured.scale_out.unmet) == (2, 2, 1)
    assert measured.scale_out.late_s == pytest.approx(1.5)


def test_an_up_step_that_replicas_awaited_has_no_delay_and_counts_in_the_average_over_all() -> None:
    delays = scale_out(counts(1, 2, 2, 3, 3, 3), counts(2, 2, 2, 2, 2, 3), 0.5)
    assert (delays.up_steps, delays.late, delays.unmet) == (2, 1, 0)
    assert delays.late_s == pytest.approx(1.0)
    assert delays.all_s == pytest.approx(0.5)


def test_each_step_of_a_climb_waits_for_its_own_level() -> None:
    delays = scale_out(counts(1, 2, 3, 3, 3, 3), counts(1, 1, 1, 2, 3, 3), 1.0)
    assert (delays.up_steps, delays.late) == (2, 2)
    assert delays.late_s == pytest.approx((2 + 2) / 2)


def test_a_shortage_at_the_end_lasts_to_the_end() -> None:
    delays = scale_out(counts(1, 1, 2, 2, 2), counts(1, 1, 1, 1, 1), 1.0)
    assert (delays.late_s, delays.unmet) == (3.0, 1)


def test_no_up_steps_no_delay() -> None:
    delays = scale_out(counts(3, 2, 1), counts(1, 1, 1), 1.0)
    assert (delays.late_s, delays.all_s, delays.up_steps) == (0.0, 0.0, 0)


def test_scaled_to_zero_without_need_is_neither_waste_nor_shortage() -> None:
    measured = elasticity(counts(0, 0, 1), counts(0, 0, 1), 1.0)
    assert (measured.theta_u, measured.theta_o, measured.tau_u, measured.waste) == (0, 0, 0, 0)


def test_unequal_or_empty_arrays_are_refused() -> None:
    with pytest.raises(ValueError, match="equal"):
        elasticity(counts(1), counts(1, 1), 1.0)
    with pytest.raises(ValueError, match="not 0"):
        elasticity(counts(), counts(), 1.0)


def test_a_long_simulation_is_measured_in_no_time() -> None:
    random = np.random.default_rng(1)
    needed = random.integers(1, 9, 1_000_000)
    began = time.monotonic()
    elasticity(needed, np.full(1_000_000, 4), 1.0)
    assert time.monotonic() - began < 20
