"""The simulator beside a live run: the same arrivals, its policy and its figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lab.bad_input import BadInput
from lab.load import from_schedule
from lab.schedule import arrivals
from lab.trace import Trace, read_trace
from lab.validation import COMPARED, read_live, validate

DEMO_TRACE = Path(__file__).resolve().parents[3] / "lab/data/demo_trace.csv"


@pytest.fixture(scope="module")
def trace() -> Trace:
    return read_trace(DEMO_TRACE)


def live(**more: Any) -> dict[str, Any]:
    """What a mesh of one to four replicas of 100 req/s would have written that had two all the time."""
    known: dict[str, Any] = {
        "policy": "static:2", "duration_s": 60.0, "seed": 1, "peak_rps": 250.0, "capacity_rps": 100.0, "step_s": 1.0,
        "min_replicas": 1, "max_replicas": 4, "replicas": [[0.0, 2, 2]], "sent": 9000, "shed": 90, "p95_ms": 31.5,
        "start_delay_s": 1.5, "waste": 0.25,
    }  # fmt: skip
    return known | more


def test_the_arrivals_are_those_of_the_live_run(trace: Trace) -> None:
    schedule = arrivals(trace, 60.0, 250.0, 1)
    made = from_schedule(schedule, trace, 0)
    assert made.arrivals.sum() == len(schedule.offsets_s)
    assert made.arrivals[7] == np.sum((schedule.offsets_s >= 7) & (schedule.offsets_s < 8))
    assert len(made.before) == len(schedule.history)


def test_a_live_run_and_its_simulations_stand_side_by_side(trace: Trace) -> None:
    found = validate(live(), trace, seeds=2)
    assert set(found["figures"]) == set(COMPARED)
    assert found["figures"]["waste"]["live"] == 0.25
    assert found["figures"]["shed_share"]["live"] == 0.01
    assert found["figures"]["mean_ready"] == {"live": 2.0, "simulated": [2.0, 2.0]}
    assert found["timeline"]["simulated"] == found["timeline"]["live"] == [2] * 60
    assert max(found["timeline"]["need"]) == 3  # 250 req/s at 100
    # Both of 100 req/s can't take the peak: some are shed, and the p95 is that of a queue.
    assert found["figures"]["shed_share"]["simulated"][0] > 0
    assert found["figures"]["p95_ms"]["simulated"][0] > 100


def test_the_policy_is_the_live_one(trace: Trace) -> None:
    steps = [[0.0, 1, 1], [20.0, 4, 1], [22.0, 4, 4]]
    found = validate(live(policy="predictive", replicas=steps), trace, seeds=1)
    assert found["timeline"]["live"][19:23] == [1, 1, 1, 4]
    assert found["timeline"]["simulated"][0] == 1
    assert max(found["timeline"]["simulated"]) >= 3


def test_what_is_no_live_run_is_refused(tmp_path: Path, trace: Trace) -> None:
    path = tmp_path / "live.json"
    for text, complaint in (
        ("{}", "it lacks policy, duration_s"),
        (json.dumps(live(peak_rps=None)), "it lacks peak_rps"),
        ("[1]", "it lacks policy"),
        ("{", "not JSON"),
    ):
        path.write_text(text)
        with pytest.raises(BadInput, match=complaint) as refused:
            read_live(path)
        assert "foremesh demo --json" in str(refused.value)
    with pytest.raises(ValueError, match="magic"):
        validate(live(policy="magic"), trace, seeds=1)
