"""The queue against cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from lab.queueing import ANSWERED, BUSY, GAPS, LATE, LATENCY, QUEUE, SHED, Queue
from lab.server import Server


def queue(arrivals: list[int], server: Server, seed: int = 0) -> Queue:
    counts = np.asarray(arrivals, dtype=np.int64)
    random = np.random.default_rng(seed)
    gaps = np.concatenate(([0.0], np.cumsum(random.standard_exponential(GAPS + max(arrivals) + 1))))
    return Queue(server, counts, gaps, random.integers(0, GAPS, len(counts)))


def served(arrivals: list[int], ready: list[int], server: Server, seed: int = 0) -> Queue:
    made = queue(arrivals, server, seed)
    for second, replicas in enumerate(ready):
        made.serve(second, second + 1, replicas)
    return made


def test_a_lone_request_takes_one_over_the_capacity() -> None:
    server = Server(capacity_rps=5, overhead=0.2)
    made = served([1], [1], server)
    assert made.series[0, ANSWERED] == 1
    assert made.series[0, LATENCY] == pytest.approx(server.setup_s + server.each_s) == pytest.approx(0.2)
    assert made.histogram[200] == 1


def test_below_the_capacity_busy_time_is_rate_over_capacity() -> None:
    # 50 req/s on 20 replicas of 5 req/s: half of the time; nobody waits.
    made = served([50] * 600, [20] * 600, Server(capacity_rps=5))
    assert made.series[10:, BUSY].mean() == pytest.approx(0.5, abs=0.01)
    assert made.series[:, ANSWERED].mean() == 50
    assert made.series[:, SHED].sum() == 0
    assert made.series[:, LATENCY].sum() / (50 * 600) == pytest.approx(0.2, abs=0.005)


def test_batches_serve_more_than_lone_requests_could_and_no_more_than_full_ones() -> None:
    server = Server(capacity_rps=5, overhead=0.2, max_batch=8, deadline_s=2)
    full = server.max_batch / (server.setup_s + server.max_batch * server.each_s)
    assert full == pytest.approx(8 / (0.04 + 8 * 0.16))
    made = served([200] * 120, [20] * 120, server)  # 200 req/s where 100 are the capacity and 121 the most
    assert made.series[60:, ANSWERED].mean() == pytest.approx(20 * full, rel=0.01)
    assert made.series[60:, SHED].sum() == pytest.approx(60 * (200 - 20 * full), rel=0.02)
    assert made.series[60:, BUSY].mean() == pytest.approx(1.0, abs=1e-3)


def test_what_would_wait_beyond_the_deadline_is_shed_and_nothing_answered_waited_longer() -> None:
    server = Server(capacity_rps=5, deadline_s=0.5, max_batch=4)
    made = served([60] * 60, [5] * 60, server)
    longest = server.deadline_s + server.setup_s + server.max_batch * server.each_s
    assert made.series[:, SHED].sum() > 0
    assert np.flatnonzero(made.histogram).max() <= longest * 1000 + 1
    assert made.series[:, ANSWERED].sum() + made.series[:, SHED].sum() == 60 * 60


def test_beyond_the_queue_bound_is_shed() -> None:
    made = served([500], [1], Server(capacity_rps=5, deadline_s=1000, queue_bound=10))
    assert made.series[0, SHED] > 450
    assert made.in_system <= 1 + 10 + 1


def test_without_a_replica_everything_is_shed() -> None:
    made = served([7, 7], [0, 1], Server())
    assert made.series[:, SHED].tolist()[0] == 7
    assert made.series[1, ANSWERED] > 0


def test_answers_beyond_the_slo_are_counted() -> None:
    server = Server(capacity_rps=5, slo_s=0.25, deadline_s=10)
    made = served([12], [1], server)  # a dozen in one second where five are the capacity
    assert 0 < made.series[0, LATE] < 12
    assert made.histogram[251:].sum() == pytest.approx(made.series[0, LATE], abs=1)


def test_a_replica_that_goes_takes_its_share_along() -> None:
    made = queue([300, 0], Server(capacity_rps=5, deadline_s=10))
    made.serve(0, 1, 10)
    before = made.in_system
    made.serve(1, 2, 5)
    assert before > 100
    # Half of it is drained elsewhere; five replicas serve at most 5 x 6.06 req/s of the other half.
    assert made.in_system == pytest.approx(before / 2 - 5 * 8 / 1.32, abs=3)


def test_one_second_at_a_time_or_all_at_once_is_the_same() -> None:
    arrivals = [30, 0, 80, 50, 10]
    whole, parts = queue(arrivals, Server()), queue(arrivals, Server())
    whole.serve(0, 5, 4)
    for second in range(5):
        parts.serve(second, second + 1, 4)
    assert np.array_equal(whole.series, parts.series)
    assert np.array_equal(whole.histogram, parts.histogram)
    assert whole.series[4, QUEUE] == np.float32(whole.in_system) == np.float32(parts.in_system)
    assert whole.answered_rps == whole.series[:, ANSWERED].mean()
    assert whole.cpu == pytest.approx(whole.series[:, BUSY].mean()) == pytest.approx(whole.busy)
    assert parts.busy == pytest.approx(whole.series[4, BUSY])
    assert np.all((whole.series[:, BUSY] >= 0) & (whole.series[:, BUSY] <= 1 + 1e-6))


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"capacity_rps": 0}, "capacity_rps 0"),
        ({"overhead": 1}, "overhead 1"),
        ({"max_batch": 0}, "max_batch"),
        ({"slo_s": -1}, "slo_s -1"),
    ],
)
def test_an_impossible_server_is_refused(fields: dict[str, float], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Server(**fields)  # type: ignore[arg-type]
