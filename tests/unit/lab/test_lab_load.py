"""From a trace to a load: what is kept, what is drawn, what is known of it."""

from __future__ import annotations

import numpy as np
import pytest

from lab.intensity import intensity
from lab.load import busiest, load, part, scale_for
from lab.trace import Trace


def trace(requests: list[float], bin_s: float = 60.0, name: str = "t") -> Trace:
    counts = np.asarray(requests, dtype=np.float64)
    return Trace(np.arange(len(counts), dtype=np.float64) * bin_s, counts, bin_s, (), name)


def test_a_bin_keeps_its_count_and_the_rate_runs_between_the_middles() -> None:
    made = load(trace([60, 120, 240, 120, 60]), (0, 5), 1.0, 0)
    sums = made.rates_rps.reshape(5, 60).sum(axis=1)
    assert sums == pytest.approx([60, 120, 240, 120, 60])
    # From the middle of the second bin on it rises, second by second.
    assert np.all(np.diff(made.rates_rps[90:120]) > 0)
    assert np.abs(np.diff(made.rates_rps)).max() < 1


def test_arrivals_are_poisson_of_the_rate() -> None:
    made = load(trace([6000.0] * 60), (0, 60), 1.0, 0)
    assert made.arrivals.mean() == pytest.approx(100, rel=0.01)
    assert made.arrivals.var() == pytest.approx(100, rel=0.1)


def test_the_same_seed_is_the_same_load_and_another_is_another() -> None:
    one, two, other = (load(trace([600.0] * 20), (5, 20), 2.0, seed) for seed in (1, 1, 2))
    for name in ("arrivals", "before", "gaps", "places", "rates_rps"):
        assert np.array_equal(getattr(one, name), getattr(two, name)), name
    assert not np.array_equal(one.arrivals, other.arrivals)
    assert np.array_equal(one.rates_rps, other.rates_rps)
    assert one.random("starts").random() == two.random("starts").random() != other.random("starts").random()


def test_what_comes_before_the_judged_part_is_history() -> None:
    made = load(trace([60.0] * 10 + [600.0] * 10), (10, 20), 1.0, 0)
    assert (len(made.before), len(made.arrivals)) == (600, 600)
    assert made.began_at == 600
    assert made.before[:500].mean() < 2 < made.arrivals[100:].mean()


def test_the_scale_gives_the_judged_part_its_mean() -> None:
    of = trace([60.0] * 10 + [600.0] * 10)
    assert scale_for(of, (10, 20), 85.0) == pytest.approx(8.5)
    assert load(of, (10, 20), 8.5, 0).rates_rps.mean() == pytest.approx(85, rel=0.06)
    with pytest.raises(ValueError, match="no requests"):
        scale_for(trace([5.0, 0.0, 0.0]), (1, 3), 85.0)


def test_narrow_bins_are_averaged_where_it_says_what_was_needed() -> None:
    made = load(trace([0.0, 20.0] * 300, bin_s=1.0), (0, 600), 1.0, 0)
    assert made.rates_rps[20:580] == pytest.approx(np.full(560, 10.0))
    assert set(np.unique(made.arrivals[::2])) == {0}  # the arrivals themselves keep each second


def test_shares_of_a_trace() -> None:
    assert part(trace([1.0] * 8), 0.75, 1.0) == (6, 8)
    with pytest.raises(ValueError, match="no bin"):
        part(trace([1.0] * 8), 0.99, 1.0)


def test_the_busiest_stretch_of_a_part() -> None:
    of = trace([99.0, 1.0, 2.0, 9.0, 8.0, 1.0, 1.0, 1.0])
    assert busiest(of, (1, 8), 120.0) == (3, 5)
    assert busiest(of, (0, 8), 60.0) == (0, 1)
    assert busiest(of, (1, 8), 1e9) == (1, 8)


def test_bins_of_a_fraction_of_a_second_are_refused() -> None:
    with pytest.raises(ValueError, match="whole seconds"):
        load(trace([1.0] * 8, bin_s=0.5), (0, 8), 1.0, 0)


def test_the_intensity_is_nearer_to_the_truth_than_noisy_counts_are() -> None:
    random = np.random.default_rng(0)
    truth = 40 + 20 * np.sin(np.arange(2000) / 60)
    counts = random.poisson(truth).astype(np.float64)
    smooth, dispersion = intensity(counts)
    assert np.abs(smooth - truth).mean() < 0.35 * np.abs(counts - truth).mean()
    assert dispersion == pytest.approx(1.0, abs=0.15)


def test_smooth_large_counts_are_their_own_intensity() -> None:
    counts = 1e6 * (2 + np.sin(np.arange(500) / 3.0))
    smooth, _ = intensity(counts)
    assert np.abs(smooth - counts).mean() < 0.02 * counts.mean()
