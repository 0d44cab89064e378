"""Rows of an experiment put together: means over seeds with bootstrap intervals, and fronts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lab import measures
from lab.bad_input import BadInput, read_text
from lab.measures import FIGURES, SHARES

Row = dict[str, Any]

DRAWS = 1000
LEVEL = 0.95

RESULTS, HOURS = "results.json", "hours.json"

LEAST_HOURS = 4
"""Hours that must be known to draw from them."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Mean of a figure over seeds, and the bootstrap's percentile interval of that mean (LEVEL).

    Shares of time, of replicas and of requests are drawn by the hour: the hours of all seeds, put back. That knows of
    hours that are unlike each other as well as of luck. Other figures are drawn by the seed; with one seed their
    interval is the mean itself.
    """

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Summary:
    """All seeds of one policy with one setting on one trace with one start delay.

    figures: by the names of lab.measures.FIGURES; None where no seed had one. failed: tracebacks of seeds that broke.
    """

    trace: str
    start_delay_s: float
    policy: str
    setting: str
    default: bool
    seeds: int
    figures: dict[str, Interval | None]
    failed: tuple[str, ...]


def read_rows(folder: Path) -> list[Row]:
    """The rows of results.json in a folder; raises BadInput when they are not there or no such rows."""
    path = folder / RESULTS
    try:
        rows = json.loads(read_text(path, "the folder of `foremesh lab run`"))
        if not isinstance(rows, list) or any(not {"trace", "policy", *FIGURES} <= set(row) for row in rows):
            raise ValueError("no list of rows")
    except BadInput:
        raise
    except (ValueError, TypeError) as error:
        raise BadInput(path, f"not the rows of a run ({error})", "run `foremesh lab run` again") from None
    if not rows:
        raise BadInput(path, "it holds no rows", "run `foremesh lab run` again")
    hours = _read_hours(folder, len(rows))
    return [row | {measures.HOURS: each} for row, each in zip(rows, hours, strict=True)] if hours else rows


def _read_hours(folder: Path, rows: int) -> list[Any]:
    """The hours of each row; none where they are missing or those of other rows: intervals do without them."""
    try:
        hours = json.loads((folder / HOURS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return hours if isinstance(hours, list) and len(hours) == rows else []


def summaries(rows: Iterable[Row]) -> list[Summary]:
    """One summary for each trace, start delay, policy and setting, in the order of their first rows.

    What `hpa-tuned` chose is its setting of each trace and start delay.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        # A seed whose policy broke before it had a setting belongs to the others.
        setting = "" if row["policy"] == "hpa-tuned" else row["setting"]
        groups.setdefault(
            (row["trace"], row["start_delay_s"], row["policy"], setting, row["default"]), []
        ).append(row)
    return [_summary(group) for group in groups.values()]


def _summary(rows: Sequence[Row]) -> Summary:
    first = rows[0]
    good = [row for row in rows if "error" not in row]
    figures = {name: interval([row[name] for row in good if row[name] is not None]) for name in FIGURES}
    hours = [hour for row in good for hour in row.get(measures.HOURS, ())]
    for name, places in SHARES.items():
        figures[name] = _by_hour(figures[name], hours, places)
    return Summary(
        trace=first["trace"],
        start_delay_s=first["start_delay_s"],
        policy=first["policy"],
        setting=first["setting"],
        default=first["default"],
        seeds=len(rows),
        figures=figures,
        failed=tuple(row["error"] for row in rows if "error" in row),
    )


def interval(values: Sequence[float]) -> Interval | None:
    """Mean and bootstrap interval of values; None for none. The same values give the same interval."""
    if not values:
        return None
    known = np.asarray(values, dtype=np.float64)
    mean = float(known.mean())
    if len(known) == 1:
        return Interval(mean, mean, mean)
    random = np.random.default_rng(0)
    means = known[random.integers(0, len(known), (DRAWS, len(known)))].mean(axis=1)
    low, high = np.quantile(means, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Interval(mean, float(low), float(high))


def _by_hour(
    mean: Interval | None, hours: Sequence[Sequence[int]], places: tuple[int, int]
) -> Interval | None:
    """The interval of a share from whole hours drawn anew; as it was where there are too few."""
    if mean is None or len(hours) < LEAST_HOURS:
        return mean
    parts, wholes = (np.asarray([hour[place] for hour in hours], dtype=np.float64) for place in places)
    drawn = np.random.default_rng(0).integers(0, len(hours), (DRAWS, len(hours)))
    shares = parts[drawn].sum(axis=1) / np.maximum(wholes[drawn].sum(axis=1), 1.0)
    low, high = np.quantile(shares, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Interval(mean.mean, min(float(low), mean.mean), max(float(high), mean.mean))


CLAIRVOYANT = {"oracle", "informed"}
"""Policies that are told what nobody can know: limits to compare with, and never part of a front."""


def front(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those (x, y) that no other beats in both, less being better: by x ascending, y descending."""
    kept: list[tuple[float, float]] = []
    for x, y in sorted(points):
        if not kept or y < kept[-1][1]:
            kept.append((x, y))
    return kept
