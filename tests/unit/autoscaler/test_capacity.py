"""Learning what a replica serves: converges, resists, stays bounded."""

from __future__ import annotations

import random

import pytest

from services.autoscaler.capacity import CapacityEstimate


def fed(
    estimate: CapacityEstimate,
    true_rps: float,
    utilisation: float,
    samples: int,
    ready: int = 2,
    queue: float = 9,
) -> float | None:
    for _ in range(samples):
        estimate.learn(true_rps * utilisation * ready, utilisation, ready, queue)
    return estimate.rps


@pytest.mark.parametrize("true_rps", [60.0, 200.0, 350.0])
def test_full_replicas_tell_their_capacity_within_a_minute(true_rps: float) -> None:
    assert fed(CapacityEstimate(150.0), true_rps, 0.95, 30) == pytest.approx(true_rps, rel=0.05)


def test_the_fuller_the_replicas_the_more_a_sample_counts() -> None:
    half, full = CapacityEstimate(100.0), CapacityEstimate(100.0)
    fed(half, 140, 0.8, 5)
    fed(full, 140, 1.0, 5)
    assert half.rps is not None
    assert full.rps is not None
    assert 100 < half.rps < full.rps < 140


def test_low_load_cannot_lower_it() -> None:
    # Without batches each request costs twice as much: at 10 % of the CPU a replica seems to be worth half.
    assert fed(CapacityEstimate(200.0), 100, 0.1, 500) == 200


def test_half_full_replicas_cannot_lower_it() -> None:
    # Seen on a mesh at 60 req/s per replica: 97 req/s each, by what they used; they had just served 210.
    assert fed(CapacityEstimate(210.0), 97, 0.62, 500) == 210


def test_busy_replicas_that_keep_nobody_waiting_cannot_lower_it() -> None:
    # Seen on a mesh: busy all the time with 100 req/s each, and 400 when full, for then they batch.
    assert fed(CapacityEstimate(400.0), 100, 1.0, 500, ready=3, queue=2.9) == 400
    lowered = fed(CapacityEstimate(400.0), 100, 1.0, 500, ready=3, queue=3.0)
    assert lowered == pytest.approx(100, rel=0.05)


def test_noise_of_busy_replicas_that_keep_nobody_waiting_does_not_raise_it() -> None:
    dice, estimate = random.Random(8), CapacityEstimate(100.0)
    for _ in range(2000):
        estimate.learn(2 * 85 * dice.gauss(1, 0.2), 0.85, 2, 1.0)
    assert estimate.rps == pytest.approx(100, rel=0.05)


def test_low_load_can_raise_it() -> None:
    raised = fed(CapacityEstimate(100.0), 180, 0.3, 200)
    assert raised is not None
    assert 155 < raised <= 180


def test_one_wild_sample_does_little() -> None:
    estimate = CapacityEstimate(100.0)
    estimate.learn(1e9, 1.0, 1, 9)
    assert estimate.rps == pytest.approx(120)  # held to twice the estimate, a fifth of the way
    estimate = CapacityEstimate(100.0)
    estimate.learn(1e9, 0.06, 1, 9)
    assert estimate.rps == 100


@pytest.mark.parametrize(("true_rps", "bound"), [(1e6, 400.0), (0.001, 25.0)])
def test_it_stays_within_a_quarter_and_four_times_the_first_guess(true_rps: float, bound: float) -> None:
    assert fed(CapacityEstimate(100.0), true_rps, 1.0, 1000) == pytest.approx(bound)


def test_without_a_first_guess_the_first_good_sample_is_it() -> None:
    estimate = CapacityEstimate()
    assert fed(estimate, 80, 0.2, 50) is None
    assert fed(estimate, 80, 0.8, 1) == pytest.approx(80)
    assert fed(estimate, 900, 1.0, 100) == pytest.approx(900, rel=0.05)


@pytest.mark.parametrize("sample", [(0.0, 0.9, 1), (100.0, 0.0, 1), (100.0, 0.04, 1), (100.0, 0.9, 0)])
def test_no_load_and_no_replica_teach_nothing(sample: tuple[float, float, int]) -> None:
    estimate = CapacityEstimate(100.0)
    estimate.learn(*sample, 9)
    assert (estimate.rps, estimate.samples) == (100, 0)


def test_noise_averages_out() -> None:
    dice = random.Random(4)
    estimate = CapacityEstimate(250.0)
    for _ in range(300):
        used = dice.uniform(0.3, 1.0)
        # Cost per request falls with load: 120 req/s apparent when idle, 160 when full.
        estimate.learn((120 + 40 * used) * used * 3 * dice.gauss(1, 0.15), used, 3, 9)
    assert estimate.rps == pytest.approx(155, rel=0.1)


def test_a_guess_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="above zero"):
        CapacityEstimate(0.0)
