"""What is begun when, and how far it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lab.experiment import Experiment, Setting
from lab.plan import FORECASTS_WORK, WORK, Plan
from lab.runner import run


def asked(policy: str, trace: str = "a.csv", seed: int = 0) -> Setting:
    return Setting(trace, policy, 0.7, True, 30.0, seed)


def test_forecasts_come_first_who_reads_them_waits_and_the_longest_is_next() -> None:
    settings = [asked("hpa"), asked("predictive"), asked("kpa"), asked("hpa", "long.csv")]
    plan = Plan(settings, {"a.csv": 100, "long.csv": 400}.__getitem__)
    assert plan.seconds == [100, 100, 100, 400, 100]
    assert (plan.next(), plan.load(4)) == (4, ("a.csv", 0))
    assert (plan.next(), plan.load(3)) == (3, None)
    plan.finished(3)
    assert plan.next() == 0
    plan.finished(4)  # only now can predictive begin, and it takes longer than kpa
    assert [plan.next(), plan.next(), plan.next()] == [1, 2, None]


def test_each_load_is_forecast_once() -> None:
    settings = [asked("predictive", seed=seed) for seed in (0, 1, 0)]
    assert Plan(settings, lambda trace: 1).loads == [("a.csv", 0), ("a.csv", 1)]
    assert Plan([asked("hpa"), asked("oracle")], lambda trace: 1).loads == []


def test_the_share_that_is_done_counts_what_a_second_costs() -> None:
    plan = Plan([asked("hpa"), asked("predictive")], lambda trace: 10)
    total = 10 * (1 + WORK["predictive"] + FORECASTS_WORK)
    assert plan.share([0, 0, 0]) == 0
    assert plan.share([10, 0, 4]) == (10 + 4 * FORECASTS_WORK) / total
    assert plan.share(plan.seconds) == 1


def test_progress_moves_within_a_run(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).poisson(600, 10 * 1440)
    path = tmp_path / "ten_days.csv"
    rows = (f"{minute * 60},{count}" for minute, count in enumerate(counts))
    path.write_text("\n".join(["timestamp,requests", *rows]) + "\n", encoding="utf-8")
    seen: list[tuple[float, int, int]] = []
    experiment = Experiment((str(path),), ("hpa",), (30.0,), last=0.9)
    run(experiment, tmp_path / "out", jobs=1, progress=lambda *told: seen.append(told))
    shares = [share for share, _, _ in seen]
    assert shares == sorted(shares)
    assert len({share for share in shares if 0 < share < 1}) >= 3
    assert seen[-1] == (1.0, 1, 1)
    assert {(done, runs) for _, done, runs in seen[:-1]} == {(0, 1)}
