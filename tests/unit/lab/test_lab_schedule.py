"""Windows, compression, scale and the arrivals drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lab.demo_trace import DEMO_TRACE
from lab.schedule import arrivals, choose_window
from lab.trace import Trace, read_trace


def trace_of(requests: list[float], bin_s: float = 60.0) -> Trace:
    times = np.arange(len(requests), dtype=np.float64)
    return Trace(times * bin_s, np.asarray(requests, dtype=np.float64), bin_s)


STEP_UP = trace_of([10.0] * 500 + [100.0] * 100 + [10.0] * 400)


def test_window_holds_the_largest_rise_at_a_third_and_ordinary_traffic_before_it() -> None:
    window = choose_window(STEP_UP, 120)
    assert (window.first, window.stop) == (460, 580)
    assert (window.step_s, window.compression) == (1.0, 60.0)


def test_one_noisy_bin_is_no_rise() -> None:
    requests = [10.0] * 1000
    requests[100] = 120.0
    requests[600:700] = [60.0] * 100
    assert choose_window(trace_of(requests), 120).first == 560


def test_window_stays_inside_the_trace() -> None:
    early = trace_of([10.0] * 12 + [100.0] * 988)
    assert choose_window(early, 120).first == 0
    late = trace_of([10.0] * 985 + [100.0] * 15)
    assert choose_window(late, 120).stop == 1000


def test_short_trace_is_replayed_whole_with_whole_seconds_per_bin() -> None:
    window = choose_window(trace_of([1.0] * 50), 120)
    assert (window.first, window.stop, window.step_s, window.compression) == (0, 40, 3.0, 20.0)
    assert choose_window(trace_of([1.0, 2.0]), 120).step_s == 60


def test_a_window_without_requests_is_never_chosen() -> None:
    falling = trace_of([100.0] + [0.0] * 999)
    window = choose_window(falling, 60)
    assert falling.requests[window.first : window.stop].max() == 100


def test_peak_bin_gets_the_peak_rate_and_the_count_is_poisson() -> None:
    schedule = arrivals(STEP_UP, 120, 500.0, seed=3)
    assert schedule.rates_rps.shape == (120,)
    assert schedule.rates_rps.max() == pytest.approx(500)
    assert schedule.rates_rps[0] == pytest.approx(50)
    expected = float(schedule.rates_rps.sum())
    assert abs(len(schedule.offsets_s) - expected) < 5 * np.sqrt(expected)
    counts = np.histogram(schedule.offsets_s, bins=120, range=(0, 120))[0]
    assert counts[:39].mean() == pytest.approx(50, rel=0.1)
    busy = counts[41:]
    assert busy.mean() == pytest.approx(500, rel=0.02)
    assert 0.5 < busy.var() / busy.mean() < 1.7  # a Poisson process: variance = mean


def test_arrivals_ascend_and_stay_inside() -> None:
    schedule = arrivals(STEP_UP, 30.5, 200.0, seed=1)
    assert np.all(np.diff(schedule.offsets_s) >= 0)
    assert schedule.offsets_s[0] >= 0
    assert 29.5 < schedule.offsets_s[-1] < 30.5
    assert schedule.rates_rps.shape == (31,)


def test_the_seed_decides_and_nothing_else() -> None:
    one, same, other = (arrivals(STEP_UP, 60, 100.0, seed=seed) for seed in (7, 7, 8))
    assert np.array_equal(one.offsets_s, same.offsets_s)
    assert np.array_equal(one.history, same.history)
    assert not np.array_equal(one.offsets_s[:100], other.offsets_s[:100])


def test_history_is_the_load_before_the_window_in_demo_seconds() -> None:
    schedule = arrivals(STEP_UP, 120, 500.0, seed=1)
    assert schedule.history.shape == (460,)
    assert schedule.history.mean() == pytest.approx(50, rel=0.05)
    assert np.array_equal(schedule.history, np.round(schedule.history))
    assert arrivals(STEP_UP, 120, 500.0, seed=1, history_s=60).history.shape == (60,)
    assert arrivals(trace_of([1.0] * 50), 120, 10.0, seed=1).history.shape == (0,)


def test_long_bins_last_whole_seconds_and_rates_are_per_second() -> None:
    schedule = arrivals(trace_of([100.0, 400.0]), 10, 80.0, seed=1)
    assert schedule.window.step_s == 5
    assert schedule.rates_rps.tolist() == [20.0] * 5 + [80.0] * 5
    assert schedule.scale == pytest.approx(1.0)  # 400 requests of the trace, 400 of the replay


def test_notes_say_what_was_chosen_and_warn_of_thin_traces() -> None:
    notes = arrivals(STEP_UP, 120, 500.0, seed=1).notes
    assert "bins 460 to 579 of 1000" in notes[0]
    assert "compressed 60 times" in notes[0]
    assert len(notes) == 1
    thin = arrivals(trace_of([1.0, 3.0] * 500), 120, 500.0, seed=1).notes
    assert "counting noise" in thin[-1]


@pytest.mark.parametrize(
    ("duration", "peak", "says"),
    [
        (0.5, 10, "duration"),
        (float("nan"), 10, "duration"),
        (1e9, 10, "duration"),
        (60, 0, "peak"),
        (60, -1, "peak"),
        (60, float("inf"), "peak"),
        (3600, 1e6, "too many"),
    ],
)
def test_impossible_orders_are_refused(duration: float, peak: float, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        arrivals(STEP_UP, duration, peak, seed=1)


def test_a_trace_without_requests_is_refused() -> None:
    with pytest.raises(ValueError, match="no requests at all"):
        arrivals(trace_of([0.0] * 100), 60, 10, seed=1)


def test_the_shipped_trace_shows_its_flash_crowd() -> None:
    schedule = arrivals(read_trace(DEMO_TRACE), 120, 1000.0, seed=1)
    assert schedule.window.step_s == 1
    assert 30 <= int(np.argmax(schedule.rates_rps)) <= 50
    assert schedule.rates_rps[:35].max() < 450
    assert len(schedule.history) >= 100


def test_real_traces_are_scheduled(shared_traces: Path) -> None:
    for path in sorted(shared_traces.glob("*.csv")):
        schedule = arrivals(read_trace(path), 120, 300.0, seed=1)
        assert schedule.rates_rps.max() == pytest.approx(300), path.name
        assert len(schedule.offsets_s) > 100, path.name
