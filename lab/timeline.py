"""The hardest hours of a run, for a picture: load, need, forecast and replicas side by side."""

from __future__ import annotations

from typing import Any

import numpy as np

from lab.foresight import Issued
from lab.load import Load
from lab.queueing import ANSWERED, LATE, SHED, Ints
from lab.simulator import Run

LENGTH_S = 3 * 3600
STEP_S = 10
_RISE_S = 600

FORECAST_QUANTILES = (0.5, 0.95)


def hardest(need: Ints) -> tuple[int, int]:
    """The seconds [first, stop) of at most LENGTH_S around the largest rise of need within ten minutes."""
    length = min(LENGTH_S, len(need))
    if len(need) <= _RISE_S:
        return 0, length
    rise = int(np.argmax(need[_RISE_S:] - need[:-_RISE_S]))
    first = min(max(0, rise - length // 3), len(need) - length)
    return first, first + length


def of_load(load: Load, need: Ints, forecasts: Issued | None, start_delay_s: float) -> dict[str, Any]:
    """What all policies of one load faced: times (epoch seconds), rate and arrivals in requests per second, need, and
    where they were issued the forecasts of FORECAST_QUANTILES made a start delay before.
    """
    first, stop = hardest(need)
    at = np.arange(first, stop, STEP_S)
    shown: dict[str, Any] = {
        "times": (load.began_at + at).tolist(),
        "rate_rps": [round(float(rate), 2) for rate in load.rates_rps[at]],
        "arrivals_rps": [round(float(np.mean(load.arrivals[a : a + STEP_S])), 2) for a in at],
        "need": need[at].tolist(),
    }
    if forecasts is not None:
        shown["forecast_rps"] = [
            _forecast(forecasts, at - start_delay_s, start_delay_s, q) for q in FORECAST_QUANTILES
        ]
    return shown


def of_run(run: Run, need: Ints) -> dict[str, Any]:
    """What one policy made of it: ready and wanted replicas, and the requests that were shed or late in each step."""
    first, stop = hardest(need)
    at = np.arange(first, stop, STEP_S)
    missed = run.series[:, SHED] + run.series[:, LATE]
    return {
        "ready": run.ready[at].tolist(),
        "wanted": run.wanted[at].tolist(),
        "violations": [int(missed[a : a + STEP_S].sum()) for a in at],
        "answered": [int(run.series[a : a + STEP_S, ANSWERED].sum()) for a in at],
    }


def _forecast(issued: Issued, made: Any, ahead_s: float, quantile: float) -> list[float | None]:
    """The rate that was forecast at `made` (seconds of the run) for `ahead_s` later; None where nothing was."""
    from services.predictor.forecast import QUANTILES  # noqa: PLC0415

    column = QUANTILES.index(quantile)
    rates: list[float | None] = []
    for second in made:
        index = int((second - issued.first_s) // issued.every_s)
        age = second - issued.first_s - index * issued.every_s
        row = issued.rates_rps[index, :, column] if index >= 0 else None
        if row is None or not np.isfinite(row[0]):
            rates.append(None)
        else:
            rates.append(round(float(np.interp(ahead_s + age, issued.horizons_s, row)), 2))
    return rates
