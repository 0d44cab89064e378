"""How long a simulated day takes, by policy: `python -m lab.speed --trace FILE.csv`."""

from __future__ import annotations

import argparse
import sys
import time

from lab.contenders import CONTENDERS
from lab.experiment import Experiment, Setting, issue_forecasts, run_once, scene

RUNS = 3


def main(arguments: list[str]) -> int:
    """Print seconds of CPU per day of traffic, the best of some runs on one core; exit code 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trace", required=True, help="CSV with columns timestamp,requests")
    parser.add_argument("--days", type=float, default=0.5, help="of the trace's last quarter")
    options = parser.parse_args(arguments)
    experiment = Experiment((options.trace,), ("predictive",), (30.0,), days=options.days)
    days = len(scene(experiment, options.trace, 0).load.arrivals) / 86_400
    began = time.process_time()
    forecasts = issue_forecasts(experiment, options.trace, 0)
    print(f"forecasts    {(time.process_time() - began) / days:6.2f} s a day, once for each load")
    for name, of in CONTENDERS.items():
        setting = Setting(options.trace, name, 0.7 if name == "hpa-tuned" else of.default, True, 30.0, 0)
        took = []
        for _ in range(RUNS):
            began = time.process_time()
            run_once(experiment, setting, forecasts)
            took.append(time.process_time() - began)
        print(f"{name:12} {min(took) / days:6.2f} s a day")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
