"""Rolling-origin backtest: at each step of a trace's last part, forecast as the service would, then look.

    python -m services.predictor.backtest --trace FILE.csv --json OUT.json

The rows are ratios against persistence on the same origins: mae_ratio against the last value, pinball_ratio
against persistence with empirical quantiles; `champion` is what the service would have answered.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from services.predictor.champion import CONTEXT_STEPS, Champion
from services.predictor.corpus import TRAINING_SHARE
from services.predictor.forecast import HORIZONS, Floats
from services.predictor.lstm import ARTEFACTS
from services.predictor.scores import loss
from services.predictor.served import served
from services.predictor.traces import BadTrace, read, resample


@dataclass(frozen=True)
class Row:
    """Scores of one model at one horizon; ratios below 1 are better than persistence; origins scored."""

    horizon_s: float
    model: str
    mae_ratio: float
    pinball_ratio: float
    coverage_q95: float
    origins: int


def backtest(
    counts: Floats,
    step_s: float,
    champion: Champion,
    *,
    first: int,
    every: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Row]:
    """Forecast `counts` (per step, NaN = unknown) at every `every`-th origin from index `first` on."""
    sums: dict[tuple[str, int], Floats] = {}
    ahead = max(HORIZONS)
    origins = range(max(first, 2), len(counts) - ahead + 1, every)
    for done, origin in enumerate(origins):
        history = counts[max(origin - CONTEXT_STEPS, 0) : origin]
        if not np.isfinite(history[-1]):
            continue
        answer = champion.forecast(history, step_s, origin * step_s)
        base = champion.answers["persistence"]
        for index, horizon in enumerate(HORIZONS):
            outcome = counts[origin + horizon - 1] / step_s
            if not np.isfinite(outcome):
                continue
            naive, persistent = abs(outcome - base.level_rps), loss(base, index, outcome).pinball
            for name, forecast in {**champion.answers, "champion": answer}.items():
                scored = loss(forecast, index, outcome)
                cell = sums.setdefault((name, index), np.zeros(6))
                cell += (scored.absolute, naive, scored.pinball, persistent, scored.covered, 1.0)
        progress(done + 1, len(origins))
    return [
        Row(
            horizon_s=HORIZONS[index] * step_s,
            model=name,
            mae_ratio=_ratio(cell[0], cell[1]),
            pinball_ratio=_ratio(cell[2], cell[3]),
            coverage_q95=round(float(cell[4] / cell[5]), 4),
            origins=int(cell[5]),
        )
        for (name, index), cell in sorted(sums.items())
    ]


def run(
    path: Path, folder: Path, *, start: float = TRAINING_SHARE, factor: int = 1, every: int = 1
) -> dict[str, object]:
    """Backtest the trace at `path`, its bins added up by `factor`, from the share `start` of it on."""
    trace = read(path)
    counts = resample(trace.counts, factor) if factor > 1 else trace.counts
    step_s = trace.step_s * factor
    champion = served(folder)

    def progress(done: int, total: int) -> None:
        if done % 2000 == 0 or done == total:
            print(
                f"\r{trace.name}: {done}/{total} origins", end="\n" if done == total else "", file=sys.stderr
            )

    first = int(len(counts) * start)
    rows = backtest(counts, step_s, champion, first=first, every=every, progress=progress)
    return {"trace": trace.name, "step_s": step_s, "rows": [asdict(row) for row in rows]}


def main() -> int:
    """Command line; exit code 2 for a trace that cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m services.predictor.backtest", description=__doc__)
    parser.add_argument("--trace", type=Path, required=True, help="CSV with the columns timestamp,requests")
    parser.add_argument("--json", type=Path, required=True, help="file to write the table to")
    parser.add_argument(
        "--model", type=Path, default=ARTEFACTS, help="folder of forecaster.onnx and card.json"
    )
    parser.add_argument("--start", type=float, default=TRAINING_SHARE, help="share of the trace to skip")
    parser.add_argument("--factor", type=int, default=1, help="bins to add up into one step")
    parser.add_argument("--every", type=int, default=1, help="steps from one origin to the next")
    arguments = parser.parse_args()
    try:
        table = run(
            arguments.trace,
            arguments.model,
            start=arguments.start,
            factor=arguments.factor,
            every=arguments.every,
        )
    except BadTrace as error:
        print(error, file=sys.stderr)
        return 2
    arguments.json.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return 0


def _ratio(ours: float, theirs: float) -> float:
    """`ours / theirs`; two errors of zero are equal."""
    return round(float(ours / theirs), 4) if theirs > 0 else (1.0 if ours == 0 else float("inf"))


if __name__ == "__main__":
    sys.exit(main())
