"""What is compared: which part of a trace, by whom."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lab.experiment import Experiment, judged
from lab.trace import Trace

DAY = Trace(np.arange(1440, dtype=np.float64) * 60, np.arange(1440, dtype=np.float64), 60.0, (), "day")
ASKED = Experiment(("day.csv",), ("hpa",), (30.0,))


def test_the_last_quarter_is_judged_and_another_on_demand() -> None:
    assert judged(ASKED, DAY) == (1080, 1440)
    assert judged(replace(ASKED, until=0.75), DAY) == (720, 1080)
    # The busiest hour of a rising day is its last.
    assert judged(replace(ASKED, until=0.75, days=1 / 24), DAY) == (1020, 1080)


def test_a_part_that_begins_before_the_trace_is_refused() -> None:
    with pytest.raises(ValueError, match=r"--until 0\.2"):
        Experiment(("day.csv",), ("hpa",), (30.0,), until=0.2)


def test_an_experiment_is_read_back_as_it_was() -> None:
    asked = replace(ASKED, until=0.5, days=0.25, seeds=3)
    assert Experiment.from_dict(asked.as_dict()) == asked
