"""The hardest hours of a run."""

from __future__ import annotations

import numpy as np

from lab.foresight import Issued
from lab.load import load
from lab.timeline import LENGTH_S, STEP_S, hardest, of_load
from lab.trace import Trace


def test_the_steepest_rise_lies_in_the_first_part_of_the_window() -> None:
    need = np.ones(86_400, dtype=np.int64)
    need[50_000:] = 9
    need[20_000:20_600] = 5
    first, stop = hardest(need)
    assert stop - first == LENGTH_S
    assert first < 50_000 < first + LENGTH_S // 2


def test_a_short_run_is_shown_whole() -> None:
    assert hardest(np.ones(500, dtype=np.int64)) == (0, 500)
    assert hardest(np.ones(4000, dtype=np.int64)) == (0, 4000)


def test_a_forecast_is_shown_at_the_time_that_it_is_about() -> None:
    counts = np.full(30, 600.0)
    over = load(Trace(np.arange(30, dtype=np.float64) * 60, counts, 60.0, (), "t"), (0, 30), 1.0, 0)
    # Issued each 60 s: 60 s ahead 10 + the number of the forecast, 120 s ahead 100 more.
    rates = np.empty((30, 2, 7), dtype=np.float32)
    for at in range(30):
        rates[at, 0], rates[at, 1] = 10 + at, 110 + at
    rates[0] = np.nan
    shown = of_load(over, np.ones(1800, dtype=np.int64), Issued(60, 60.0, (60.0, 120.0), rates), 60.0)
    assert len(shown["times"]) == 1800 // STEP_S
    median = shown["forecast_rps"][0]
    assert median[:12] == [None] * 12  # before the first forecast that says anything, and a start delay later
    assert median[12] == 11  # at 120 s: made at 60 s by forecast 1, 60 s ahead
    assert (
        median[15] == 61
    )  # at 150 s: made at 90 s by forecast 1, which is 30 s old: between 60 and 120 s ahead
    assert median[18] == 12
