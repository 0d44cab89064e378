"""Replicas that come and go, second by second."""

from __future__ import annotations

import numpy as np
import pytest

from lab.fleet import Fleet, Starts


def fleet(replicas: int = 2, **fields: float) -> Fleet:
    known = {"delay_s": 30.0, "jitter": 0.0, "failure": 0.0, "drain_s": 10.0}
    return Fleet(Starts(**known | fields), replicas, np.random.default_rng(3))


def counts(of: Fleet) -> tuple[int, int, int, int]:
    return of.wanted, of.ready, of.starting, of.draining


def test_a_replica_is_ready_after_its_start_delay() -> None:
    made = fleet()
    made.order(100, 5)
    assert counts(made) == (5, 2, 3, 0)
    made.advance(129)
    assert counts(made) == (5, 2, 3, 0)
    made.advance(130)
    assert counts(made) == (5, 5, 0, 0)


def test_who_is_starting_goes_first_and_who_is_ready_drains() -> None:
    made = fleet(4)
    made.order(0, 6)
    made.order(10, 3)
    assert counts(made) == (3, 3, 0, 1)
    made.advance(19)
    assert made.draining == 1
    made.advance(20)
    assert counts(made) == (3, 3, 0, 0)
    made.advance(60)
    assert made.ready == 3  # what was called off doesn't come


def test_a_failed_start_begins_anew_and_is_not_measured() -> None:
    made = fleet(0, failure=0.5)
    made.order(0, 400)
    ready = []
    for second in range(0, 400):
        made.advance(second)
        ready.append(made.ready)
    # Half are there after one delay, three quarters after two.
    assert ready[29] == 0
    assert ready[30] == pytest.approx(200, abs=40)
    assert ready[60] == pytest.approx(300, abs=40)
    assert ready[61] == ready[89]
    assert made.start_delay_s == 30


def test_the_measured_start_delay_is_the_median_of_the_last_five() -> None:
    made = fleet(1, jitter=0.3)
    for at in range(40):
        made.order(at * 300, made.wanted + 1)
        made.advance(at * 300 + 200)
    assert made.start_delay_s != 30
    assert made.start_delay_s == pytest.approx(30, rel=0.5)


def test_the_nth_start_takes_as_long_whoever_orders_it() -> None:
    early, late = fleet(0, jitter=0.5), fleet(0, jitter=0.5)
    early.order(0, 3)
    late.order(1000, 3)
    assert [at for at, _ in early._starting] == [at - 1000 for at, _ in late._starting]


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [({"delay_s": 0}, "delay_s 0"), ({"jitter": -1}, "jitter -1"), ({"failure": 1}, "failure 1")],
)
def test_impossible_starts_are_refused(fields: dict[str, float], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Starts(**fields)
