import json
from collections.abc import Sequence

import numpy as np
import pytest

from services.predictor.history import ABSENT_S, MAX_INSTANCES, History, Verdict

T = 1_800_000_000


def filled(counts: Sequence[float | None], capacity_s: int = 600, instance: str = "gateway") -> History:
    history = History(capacity_s, late_s=10)
    for offset, count in enumerate(counts):
        if count is not None:
            assert history.add(instance, T + offset, count, T + offset) is Verdict.ACCEPTED
    return history


def tail(history: History, seconds: int) -> list[float | None]:
    return [None if np.isnan(count) else float(count) for count in history.seconds()[-seconds:]]


def test_seconds_are_kept_in_order_and_bounded() -> None:
    history = filled([float(i) for i in range(700)], capacity_s=600)
    assert tail(history, 3) == [697, 698, 699]
    assert len(history.seconds()) == 600
    assert history.end() == T + 699


def test_a_missing_second_is_a_gap_and_no_zero() -> None:
    history = filled([5, 5, None, 5, 0, 5])
    assert tail(history, 6) == [5, 5, None, 5, 0, 5]


def test_the_same_instance_and_second_count_once() -> None:
    history = filled([5, 6])
    assert history.add("gateway", T + 1, 6, T + 1) is Verdict.DUPLICATE
    assert history.add("gateway", T + 1.2, 99, T + 1.2) is Verdict.DUPLICATE
    assert tail(history, 2) == [5, 6]


def test_instances_add_up() -> None:
    history = filled([5, 6, 7])
    for offset in range(3):
        history.add("gateway-2", T + offset, 10, T + offset)
    assert tail(history, 3) == [15, 16, 17]


def test_a_report_that_is_late_fills_its_gap_and_one_that_is_too_late_is_refused() -> None:
    history = filled([5, None, 5, 5])
    assert history.add("gateway", T + 1, 9, T + 4) is Verdict.ACCEPTED
    assert tail(history, 4) == [5, 9, 5, 5]
    assert history.add("gateway", T - 11, 9, T + 4) is Verdict.LATE


def test_a_report_from_the_future_is_refused() -> None:
    history = filled([5])
    assert history.add("gateway", T + 3600, 9, T + 1) is Verdict.FUTURE
    assert history.end() == T


def test_a_second_that_one_gateway_has_not_reported_yet_is_not_the_end() -> None:
    history = filled([5, 6, 7])
    for offset in range(2):
        history.add("gateway-2", T + offset, 10, T + offset)
    assert history.end() == T + 1  # a third of the traffic would seem to be gone


def test_a_gateway_that_went_away_is_waited_for_and_then_left_out() -> None:
    history = History(600, late_s=10)
    for offset in range(30):
        history.add("gateway", T + offset, 5, T + offset)
        if offset < 10:
            history.add("gateway-2", T + offset, 10, T + offset)
    got = tail(history, 30)
    assert got[:10] == [15] * 10
    assert got[10 : 10 + ABSENT_S] == [None] * ABSENT_S
    assert got[10 + ABSENT_S :] == [5] * (20 - ABSENT_S)


def test_a_clock_set_back_moves_the_history_with_it() -> None:
    history = filled([1, 2, 3])
    back = T - 7200
    assert history.add("gateway", back, 4, back) is Verdict.ACCEPTED
    assert tail(history, 4) == [1, 2, 3, 4]
    assert history.end() == back


def test_a_clock_set_forward_is_a_gap() -> None:
    history = filled([1, 2, 3])
    assert history.add("gateway", T + 30, 4, T + 30) is Verdict.ACCEPTED
    assert tail(history, 30)[:-1][-27:] == [None] * 27
    history.add("gateway", T + 99_999, 5, T + 99_999)
    assert tail(history, 2) == [None, 5]


def test_steps_slide_with_the_end() -> None:
    history = filled([float(i) for i in range(1, 11)])
    assert history.steps(5, 10).tolist() == [15, 40]
    history.add("gateway", T + 10, 11, T + 10)
    assert history.steps(5, 10).tolist() == [20, 45]  # 2..6, 7..11
    assert history.steps(1, 3).tolist() == [9, 10, 11]


def test_a_step_with_a_small_gap_is_scaled_up_and_one_with_a_large_gap_is_unknown() -> None:
    history = filled([4, 4, 4, 4, 4, 4, None, 4, None, 4, 4, None, None, None, 4, 4, 4, 4, 4, 4])
    steps = history.steps(5, 10)
    assert steps[:2].tolist() == [20, 20]
    assert np.isnan(steps[2])
    assert steps[3] == 20


def test_more_gateways_than_can_be_counted_forgets_the_longest_silent_but_not_its_counts() -> None:
    history = History(600, late_s=10)
    history.add("first", T, 7, T)
    for number in range(MAX_INSTANCES):
        history.add(f"g{number}", T + 100, 1, T + 100)
    assert len(history._rings) == MAX_INSTANCES
    assert history.seconds()[-101] == 7
    assert history.seconds()[-1] == MAX_INSTANCES


def test_an_empty_history_has_nothing() -> None:
    history = History(600, late_s=10)
    assert history.end() is None
    assert history.steps(5, 10).size == 0
    assert history.dump()["arrivals"] == []


def test_what_was_saved_is_restored_under_what_came_since() -> None:
    saved = json.loads(json.dumps(filled([1, 2, None, 4]).dump()))
    assert saved == {"newest": T + 3, "arrivals": [1, 2, None, 4]}
    history = filled([None] * 6 + [7, 8])
    assert history.restore(saved, T + 8) == 3
    assert tail(history, 8) == [1, 2, None, 4, None, None, 7, 8]
    assert history.end() == T + 7


def test_a_redelivered_report_of_a_restored_second_counts_once() -> None:
    history = History(600, late_s=10)
    history.restore(filled([1, 2, 3]).dump(), T + 3)
    assert history.add("gateway", T + 2, 3, T + 3) is Verdict.DUPLICATE
    assert history.add("gateway", T + 3, 9, T + 3) is Verdict.ACCEPTED
    assert tail(history, 4) == [1, 2, 3, 9]


def test_a_saved_history_that_is_too_old_or_too_long_is_cut() -> None:
    history = filled([5] * 3, capacity_s=60)
    assert history.restore({"newest": T - 600, "arrivals": [1, 2]}, T) == 0
    assert history.restore({"newest": T - 1, "arrivals": list(range(100))}, T) <= 60
    assert history.restore({"newest": 0, "arrivals": []}, T) == 0
    assert tail(history, 3) == [5, 5, 5]


def test_a_given_history_is_put_before_the_first_request() -> None:
    history = filled([0, 0, None, 0, 8, 0, 9])
    history.put_before(np.array([1.0, 2.0, np.nan, 4.0, 5.0, 6.0]))
    assert tail(history, 9) == [1, 2, None, 4, 5, 6, 8, 0, 9]
    with pytest.raises(ValueError, match="no request"):
        filled([0, 0]).put_before(np.ones(3))


@pytest.mark.parametrize(
    "saved",
    [
        None,
        [],
        {"newest": T},
        {"newest": "soon", "arrivals": []},
        {"newest": T, "arrivals": ["many"]},
        {"newest": T, "arrivals": [-1]},
        {"newest": T, "arrivals": 7},
        {"newest": T + 9999, "arrivals": [1]},
    ],
)
def test_what_is_no_saved_history_is_refused(saved: object) -> None:
    history = filled([5, 5])
    with pytest.raises(ValueError, match="saved history"):
        history.restore(saved, T)
    assert tail(history, 2) == [5, 5]
