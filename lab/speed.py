"""How fast the lab is, beside its bars: `python -m lab.speed --trace FILE.csv [--days 87]`.

A day at 1 s by policy, on one core; with `--days` all policies over so much of the trace, really run, in two processes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from lab.bad_input import BadInput
from lab.contenders import CONTENDERS
from lab.experiment import Experiment, Setting, issue_forecasts, run_once, scene
from lab.runner import check, run

RUNS = 3
SAMPLE_DAYS = 0.5
START_DELAY_S = 30.0
PROCESSES = 2

DAY_BAR_S = 1.0
"""Seconds of CPU that a simulated day of a policy may take."""

WHOLE_BAR_S = 300.0
"""Seconds of wall time that WHOLE_BAR_DAYS of all policies may take on PROCESSES."""

WHOLE_BAR_DAYS = 87.0

_MIB = 2**20


def day(trace: str) -> dict[str, Any]:
    """Seconds of CPU for a day of traffic, the best of RUNS: {forecasts_s, policies: {name: s}}; raises as `scene`."""
    experiment = Experiment((trace,), ("predictive",), (START_DELAY_S,), days=SAMPLE_DAYS)
    began = time.process_time()
    scene(experiment, trace, 0)
    draw = time.process_time() - began
    began = time.process_time()
    forecasts = issue_forecasts(experiment, trace, 0)
    # Both live through the hour before, too.
    days = len(forecasts.rates_rps) * forecasts.every_s / 86_400
    found = {"load_s": draw / SAMPLE_DAYS, "forecasts_s": (time.process_time() - began) / days}
    policies: dict[str, float] = {}
    for name, of in CONTENDERS.items():
        setting = Setting(trace, name, 0.7 if name == "hpa-tuned" else of.default, True, START_DELAY_S, 0)
        took = []
        for _ in range(RUNS):
            began = time.process_time()
            run_once(experiment, setting, forecasts)
            took.append(time.process_time() - began)
        policies[name] = round(min(took) / days, 3)
    return {name: round(value, 3) for name, value in found.items()} | {"policies": policies}


def whole(trace: str, days: float) -> dict[str, Any]:
    """Run all policies over so many days, the busiest of the whole trace, and write what came out to a folder that goes
    again: {days, wall_s, cpu_s, peak_rss_mib}; peak_rss_mib is that of the largest process. Raises as `check` does.
    """
    experiment = Experiment((trace,), tuple(CONTENDERS), (START_DELAY_S,), last=1.0, days=days)
    check(experiment)
    console = Console(stderr=True)
    began, cpu = time.monotonic(), _children_cpu_s()
    with (
        tempfile.TemporaryDirectory() as folder,
        Progress(console=console, disable=not console.is_terminal) as bar,
    ):
        task = bar.add_task("runs", total=1.0)
        rows = run(
            experiment,
            Path(folder),
            jobs=PROCESSES,
            progress=lambda share, done, runs: bar.update(task, completed=share),
        )
    broken = [row["error"] for row in rows if "error" in row]
    if broken:
        raise RuntimeError(f"{len(broken)} of {len(rows)} runs failed; the first:\n{broken[0]}")
    return {
        "days": days,
        "wall_s": round(time.monotonic() - began, 1),
        "cpu_s": round(_children_cpu_s() - cpu, 1),
        "peak_rss_mib": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / _MIB),
    }


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _show(found: dict[str, Any]) -> None:
    print(f"CPU of one core for a day of traffic, in seconds; bar {DAY_BAR_S:g} for each policy")
    for name, took in found["day"]["policies"].items():
        print(f"  {name:12} {took:6.2f} {'' if took <= DAY_BAR_S else 'over the bar'}".rstrip())
    print(f"  {'forecasts':12} {found['day']['forecasts_s']:6.2f} once for each load")
    if "whole" in found:
        of = found["whole"]
        bar = WHOLE_BAR_S * of["days"] / WHOLE_BAR_DAYS
        verdict = "within the bar" if of["wall_s"] <= bar else "over the bar"
        print(
            f"{of['days']:g} days, {len(CONTENDERS)} policies, {PROCESSES} processes: {of['wall_s'] / 60:.2f} minutes, "
            f"{verdict} of {bar / 60:.2f}; {of['cpu_s']:.0f} s of CPU, at most {of['peak_rss_mib']} MiB in a process"
        )


def main(arguments: list[str]) -> int:
    """Print what was measured; exit code 0, or 2 for a trace that can't be used."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trace", required=True, help="CSV with columns timestamp,requests")
    parser.add_argument(
        "--days", type=float, help="run all policies over so many days, too (87: some minutes)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON for scripts")
    options = parser.parse_args(arguments)
    if options.days is not None and not options.days > 0:
        parser.error(f"--days {options.days:g}: give days above zero")
    try:
        found: dict[str, Any] = {"trace": Path(options.trace).stem, "cores": os.cpu_count()}
        if options.days is not None:
            found["whole"] = whole(options.trace, options.days)
        found["day"] = day(options.trace)
    except (BadInput, ValueError) as error:
        print(f"lab.speed: {error}", file=sys.stderr)
        return 2
    if options.json:
        bars = {"day_s": DAY_BAR_S, "whole_s": WHOLE_BAR_S, "whole_days": WHOLE_BAR_DAYS}
        print(json.dumps(found | {"bars": bars}))
    else:
        _show(found)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
