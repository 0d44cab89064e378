"""The figures of a replay, by hand, and their table."""

from __future__ import annotations

import json

import numpy as np
import pytest
from rich.console import Console

from lab.outcome import Outcome, Replay
from lab.score import changes, score
from lab.table import print_demo, sparkline


def replay_of(outcomes: list[Outcome], latency_ms: list[float], correct: list[int]) -> Replay:
    count = len(outcomes)
    lag = [float("nan") if outcome is Outcome.UNSENT else 0.001 for outcome in outcomes]
    return Replay(
        scheduled_s=np.arange(count, dtype=np.float64) / 2,
        lag_s=np.asarray(lag),
        latency_s=np.asarray(latency_ms) / 1e3,
        status=np.zeros(count, dtype=np.int16),
        outcome=np.asarray(outcomes, dtype=np.int8),
        correct=np.asarray(correct, dtype=np.int8),
        degraded=np.zeros(count, dtype=np.bool_),
        tier=np.asarray([0 if outcome is Outcome.ANSWERED else -1 for outcome in outcomes], dtype=np.int8),
        tiers=("tiny",),
        traces=(),
        connections_opened=1,
        max_outstanding=4096,
        began_s=0.0,
    )


MIXED = replay_of(
    [
        Outcome.ANSWERED,
        Outcome.ANSWERED,
        Outcome.ANSWERED,
        Outcome.ANSWERED,
        Outcome.SHED,
        Outcome.TIMED_OUT,
        Outcome.CLIENT_LIMITED,
        Outcome.UNSENT,
    ],
    [1.0, 2.0, 3.0, 4.0, 0.5, 5000.0, 0.0, float("nan")],
    [1, 1, 0, 1, -1, -1, -1, -1],
)
RATES = np.asarray([50.0, 50.0, 250.0, 250.0, 250.0, 50.0])
TIMELINE = [(0.0, 1, 1), (0.5, 1, 1), (2.2, 3, 1), (3.4, 3, 3), (5.6, 1, 3)]


def test_figures_by_hand() -> None:
    figures = score(MIXED, TIMELINE, RATES, capacity_rps=100.0, min_replicas=1, max_replicas=4)
    assert (figures["sent"], figures["answered"], figures["shed"], figures["failed"]) == (7, 4, 1, 2)
    assert figures["sent"] == figures["answered"] + figures["shed"] + figures["failed"]
    assert (figures["client_limited"], figures["timed_out"]) == (1, 1)
    assert figures["accuracy"] == 0.75
    assert (figures["p50_ms"], figures["p95_ms"], figures["p99_ms"]) == (2.5, 3.85, 3.97)
    assert figures["send_lag_p99_ms"] == 1.0
    assert figures["tiers"] == {"tiny": 4}
    assert figures["needed"] == [1, 1, 3, 3, 3, 1]
    assert figures["replicas"] == [[0.0, 1, 1], [2.2, 3, 1], [3.4, 3, 3], [5.6, 1, 3]]
    assert figures["scale_out_delay_late_s"] == 1.4  # needed at 2.0 s, there at 3.4 s
    assert figures["scale_out_delay_all_s"] == 1.4
    assert (figures["up_steps"], figures["late_up_steps"], figures["unmet_up_steps"]) == (1, 1, 0)
    assert figures["waste"] == pytest.approx(2 * 1.0 / (1 * 3.4 + 3 * 2.6), abs=1e-4)
    assert figures["theta_u"] == pytest.approx(1.4 * (2 / 3) / 6, abs=1e-4)
    assert figures["theta_o"] == pytest.approx(1.0 * 2 / 6, abs=1e-4)
    assert figures["tau_u"] == pytest.approx(1.4 / 6, abs=1e-4)
    assert figures["tau_o"] == pytest.approx(1 / 6, abs=1e-4)


def test_nothing_answered_has_no_percentiles_and_no_accuracy() -> None:
    nothing = replay_of([Outcome.BROKEN, Outcome.SHED], [1.0, 1.0], [-1, -1])
    figures = score(nothing, TIMELINE, RATES, capacity_rps=100.0, min_replicas=1, max_replicas=4)
    assert figures["accuracy"] is None
    assert (figures["p50_ms"], figures["p95_ms"], figures["p99_ms"]) == (None, None, None)
    json.dumps(figures, allow_nan=False)


def test_an_early_replica_makes_the_step_punctual() -> None:
    figures = score(
        MIXED, [(0.0, 1, 1), (1.9, 3, 3)], RATES, capacity_rps=100.0, min_replicas=1, max_replicas=4
    )
    assert (figures["scale_out_delay_late_s"], figures["scale_out_delay_all_s"]) == (0.0, 0.0)
    assert (figures["up_steps"], figures["late_up_steps"]) == (1, 0)


def test_need_stops_at_the_most_replicas_allowed() -> None:
    figures = score(MIXED, TIMELINE, RATES, capacity_rps=100.0, min_replicas=1, max_replicas=2)
    assert figures["needed"] == [1, 1, 2, 2, 2, 1]


def test_no_timeline_no_score() -> None:
    with pytest.raises(ValueError, match="timeline is empty"):
        score(MIXED, [], RATES, capacity_rps=100.0, min_replicas=1, max_replicas=4)


def test_changes_are_in_order_and_without_repeats() -> None:
    assert changes([(2.0, 2, 1), (0.0, 1, 1), (1.0, 1, 1), (3.0, 2, 2)]) == [[0, 1, 1], [2, 2, 1], [3, 2, 2]]


def test_sparkline() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([0, 0, 7, 7], columns=2) == "▁█"
    assert sparkline([1, 1], top=2) == "▅▅"
    assert sparkline([0, 0]) == "▁▁"
    assert sparkline([]) == ""


def printed(figures: dict[str, object]) -> str:
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    print_demo(figures, console)
    return console.export_text()


def test_the_table_holds_what_a_person_asks() -> None:
    figures = score(MIXED, TIMELINE, RATES, capacity_rps=100.0, min_replicas=1, max_replicas=4)
    text = printed(
        dict(figures)
        | {"policy": "predictive", "trace": "t.csv", "utterances": "u.tsv", "duration_s": 6, "mtls_hops": 12}
        | {"plaintext_hops": 0, "limit": "cgroup, 0.5 cores", "machine": "x86_64, 2 cores"}
    )
    for piece in (
        "policy predictive",
        "7 sent, 4 answered, 1 shed, 2 failed (1 timed out, 1 never left the client)",
        "75.0% of answers",
        "p50 2.5 ms, p95 3.9 ms, p99 4.0 ms",
        "peak 250 requests/s",
        "most 3 at 100.0 requests/s per replica",
        "0 s: 1/1, 2 s: 1/3, 3 s: 3/3, 6 s: 3/1",
        "1.4 s when late (1 of 1 up-steps), 1.4 s over all",
        "17.9% of replica time",
        "12 over mTLS, 0 in plaintext",
        "cgroup, 0.5 cores per replica",
        "x86_64, 2 cores",
    ):
        assert piece in text, f"{piece!r} is missing in\n{text}"


def test_the_table_survives_missing_figures() -> None:
    assert "Foremesh demo" in printed({})
