"""Rolling-origin backtest: at each step of a trace's last part, forecast as the service would, then look.

Ratios against persistence on the same origins: mae_ratio against the last value, pinball_ratio against
persistence with empirical quantiles; `champion` is what the service would have answered.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from services.predictor.champion import CONTEXT_STEPS, Champion
from services.predictor.forecast import HORIZONS, QUANTILES, Floats
from services.predictor.scores import covered, pinball
from services.predictor.served import served
from services.predictor.traces import TRAINING_SHARE, read

WARM_STEPS = 2000
"""Steps before the first judged origin from which on the forecaster is asked: a service has been running."""

LEAST_HORIZONS = 5
"""A horizon is judged where the judged part of the trace is at least so many times as long."""

FAN_STEPS, FAN_EVERY = 144, 16
"""Steps at the end of a trace over which fans are drawn, and how far their origins are apart."""

_MEDIAN = QUANTILES.index(0.5)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Row:
    """Scores of one model at one horizon; ratios below 1 are better than persistence.

    horizon_s: seconds ahead. step_s: length of the step that is forecast. origins: forecasts scored.
    """

    horizon_s: float
    model: str
    mae_ratio: float
    pinball_ratio: float
    coverage_q95: float
    step_s: float
    origins: int


@dataclass(frozen=True)
class Part:
    """What is forecast with one length of step: bins: bins of the trace in a step; steps: horizons, in steps."""

    bins: int
    steps: tuple[int, ...]


@dataclass(frozen=True)
class Fans:
    """What was said of the last steps of a trace, at some of them. load: requests per second in each step, NaN where
    unknown. issued: places in `load` of the last step known at each origin. horizons: steps. rates: requests per
    second [origin, horizon, quantile]."""

    trace: str
    step_s: float
    load: Floats
    issued: tuple[int, ...]
    horizons: tuple[int, ...]
    rates: Floats


def plan(
    bin_s: float, judged_bins: int, horizons_s: Sequence[float] | None = None
) -> tuple[list[Part], list[str]]:
    """Which steps reach which horizons, and a sentence for each horizon that can't be judged.

    A horizon is forecast with the shortest step, a multiple of the trace's bin of `bin_s` seconds, that reaches
    it in one of HORIZONS steps. Without `horizons_s`: the horizons of steps as long as a bin. judged_bins: bins
    in the part that is judged.
    """
    asked = [h * bin_s for h in HORIZONS] if horizons_s is None else sorted(set(horizons_s))
    parts: dict[int, list[int]] = {}
    notes: list[str] = []
    for horizon_s in asked:
        if horizon_s < bin_s * (1 - 1e-6):
            notes.append(
                f"{horizon_s:g} s is skipped: the trace has bins of {bin_s:g} s and tells nothing shorter"
            )
            continue
        if horizon_s * LEAST_HORIZONS > judged_bins * bin_s:
            notes.append(
                f"{horizon_s:g} s is skipped: the judged part is {judged_bins * bin_s:g} s long,"
                f" less than {LEAST_HORIZONS} times that"
            )
            continue
        reach = [steps for steps in HORIZONS if _whole(horizon_s / bin_s / steps)]
        if not reach:
            notes.append(f"{horizon_s:g} s is skipped: it is no multiple of the trace's bins of {bin_s:g} s")
            continue
        parts.setdefault(round(horizon_s / bin_s / reach[-1]), []).append(reach[-1])
    return [Part(bins, tuple(steps)) for bins, steps in sorted(parts.items())], notes


def backtest(
    counts: Floats,
    step_s: float,
    champion: Champion,
    *,
    first: int,
    bins: int = 1,
    steps: Sequence[int] = HORIZONS,
    every: int = 1,
    progress: Progress = lambda done, total: None,
) -> list[Row]:
    """Forecast `counts` (per bin, NaN = unknown) at every `every`-th origin from bin `first` on.

    step_s: seconds in a step; bins: bins that make one, windows slide by single bins. steps: the horizons to
    report; none for one at which persistence was never wrong, for there are no ratios to that. The champion is asked
    from WARM_STEPS steps before `first` on, so that it has a record by then.
    """
    total = np.concatenate(([0.0], np.cumsum(counts)))
    if not np.isfinite(counts).all():
        total = np.concatenate(([0.0], np.cumsum(np.nan_to_num(counts))))
    unknown = np.concatenate(([0], np.cumsum(~np.isfinite(counts))))
    indices = [HORIZONS.index(h) for h in steps]
    reach = np.asarray(HORIZONS) * bins

    def history(origin: int) -> Floats:
        count = min(origin // bins, CONTEXT_STEPS)
        edges = np.arange(origin - count * bins, origin + 1, bins)
        whole = np.diff(unknown[edges]) == 0
        return np.where(whole, np.diff(total[edges]), np.nan)

    sums: dict[str, Floats] = {}
    first = max(first, 2 * bins)
    for origin in range(max(first - WARM_STEPS * bins, 2 * bins), first, bins):
        seen = history(origin)
        if np.isfinite(seen[-1]):
            champion.forecast(seen, step_s, origin * step_s / bins)
    origins = range(first, len(counts) - max(steps) * bins + 1, every)
    for done, origin in enumerate(origins):
        progress(done, len(origins))
        seen = history(origin)
        if not np.isfinite(seen[-1]):
            continue
        answer = champion.forecast(seen, step_s, origin * step_s / bins)
        ends = np.minimum(origin + reach, len(counts))
        missing = (unknown[ends] - unknown[ends - bins] > 0) | (origin + reach > len(counts))
        outcomes = np.where(missing, np.nan, total[ends] - total[ends - bins]) / step_s
        naive = np.abs(outcomes - answer.level_rps)
        persistent = pinball(champion.answers["persistence"].rates_rps, outcomes)
        for name, forecast in {**champion.answers, "champion": answer}.items():
            rates = forecast.rates_rps
            scored = np.stack(
                [
                    np.abs(outcomes - rates[:, _MEDIAN]), naive, pinball(rates, outcomes), persistent,
                    covered(rates, outcomes), np.ones(len(HORIZONS)),
                ]
            )  # fmt: skip
            cell = sums.setdefault(name, np.zeros((6, len(HORIZONS))))
            cell += np.where(np.isfinite(outcomes), scored, 0.0)
    progress(len(origins), len(origins))
    return [
        Row(
            horizon_s=HORIZONS[index] * step_s,
            model=name,
            mae_ratio=round(float(cell[0, index] / cell[1, index]), 4),
            pinball_ratio=round(float(cell[2, index] / cell[3, index]), 4),
            coverage_q95=round(float(cell[4, index] / cell[5, index]), 4),
            step_s=step_s,
            origins=int(cell[5, index]),
        )
        for name, cell in sorted(sums.items())
        for index in indices
        if cell[1, index] > 0 and cell[3, index] > 0
    ]


def run(
    path: Path,
    folder: Path,
    *,
    start: float = TRAINING_SHARE,
    horizons_s: Sequence[float] | None = None,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """Backtest the trace at `path` from the share `start` of it on, with the network in `folder`.

    Returns {trace, step_s, rows, notes}; step_s is the shortest step used. Raises BadTrace, BadArtefact.
    """
    trace = read(path)
    first = int(len(trace.counts) * start)
    parts, notes = plan(trace.step_s, len(trace.counts) - first, horizons_s)
    rows: list[Row] = []
    for at, part in enumerate(parts):
        step_s = trace.step_s * part.bins
        found = backtest(
            trace.counts,
            step_s,
            served(folder),
            first=first,
            bins=part.bins,
            steps=part.steps,
            progress=lambda done, total, at=at: progress(at * total + done, len(parts) * total),  # type: ignore[misc]
        )
        rows += found
        judged = {row.horizon_s for row in found}
        notes += [
            f"{horizon_s:g} s is skipped: the last value is never wrong there, so there is no error to compare with"
            for horizon_s in (steps * step_s for steps in part.steps)
            if horizon_s not in judged
        ]
    return {
        "trace": trace.name,
        "step_s": trace.step_s * (parts[0].bins if parts else 1),
        "rows": [asdict(row) for row in sorted(rows, key=lambda row: (row.horizon_s, row.model))],
        "notes": notes,
    }


def fans(path: Path, folder: Path) -> Fans:
    """Forecast the last FAN_STEPS bins of the trace at `path` every FAN_EVERY bins, by a champion that has been asked
    for WARM_STEPS bins before. Raises BadTrace, BadArtefact."""
    trace = read(path)
    champion = served(folder)
    first = max(len(trace.counts) - FAN_STEPS, 0)
    drawn = range(first + 1, len(trace.counts) - max(HORIZONS) + 1, FAN_EVERY)
    said: dict[int, Floats] = {}
    for end in range(max(first - WARM_STEPS, 1), len(trace.counts) + 1):
        if np.isfinite(trace.counts[end - 1]):
            history = trace.counts[max(end - CONTEXT_STEPS, 0) : end]
            answer = champion.forecast(history, trace.step_s, end * trace.step_s)
            if end in drawn:
                said[end - first - 1] = answer.rates_rps
    rates = np.stack(list(said.values())) if said else np.empty((0, len(HORIZONS), len(QUANTILES)))
    return Fans(trace.name, trace.step_s, trace.counts[first:] / trace.step_s, tuple(said), HORIZONS, rates)


def tables(
    traces: Sequence[Path],
    unseen: Sequence[Path],
    folder: Path,
    progress: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> list[dict[str, Any]]:
    """For a card: `run` on the last part of `traces`, of which the network learned the rest, and on the whole of those
    that it never saw; `part` says which. progress: is told the trace, how much is done, and of how much."""
    judged = [(path, "last 25 %", TRAINING_SHARE) for path in traces]
    judged += [(path, "all, unseen", 0.0) for path in unseen]
    return [
        {**run(path, folder, start=start, progress=partial(progress, path.stem)), "part": part}
        for path, part, start in judged
    ]


def _whole(number: float) -> bool:
    return round(number) >= 1 and abs(number - round(number)) < 1e-6
