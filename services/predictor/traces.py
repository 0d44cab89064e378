"""Traffic traces: CSV files with the columns `timestamp,requests`, one row per bin of equal width."""

import csv
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from services.predictor.forecast import Floats

TRAINING_SHARE = 0.75
"""The first part of a trace, for training; the rest is only ever backtested."""

COUNT_LIMIT = 1e12
"""Requests in a bin: beyond it is a broken file, and sums of counts stay exact below it."""


class BadTrace(ValueError):
    """A trace file that cannot be used; the message names file, line and remedy."""


@dataclass(frozen=True)
class Trace:
    """counts: requests per bin, NaN where the file has no row; step_s: bin width in seconds."""

    name: str
    counts: Floats
    step_s: float


def read(path: Path) -> Trace:
    """Read a trace; `timestamp` is ISO-8601 (UTC where no zone is said) or seconds, ascending. Missing bins become NaN.

    Raises BadTrace for a file that is missing, empty, unsorted, negative or not numeric.
    """
    times: list[float] = []
    counts: list[float] = []
    lines: list[int] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets write a byte order mark
            rows = csv.DictReader(file)
            if not {"timestamp", "requests"} <= set(rows.fieldnames or ()):
                raise BadTrace(
                    f"{path}:1: expected the columns timestamp,requests, found {rows.fieldnames};"
                    " name them so, with a comma between"
                )
            for row in rows:
                where = f"{path}:{rows.line_num}"
                time, count = _time(row["timestamp"], where), _count(row["requests"], where)
                if times and time <= times[-1]:
                    raise BadTrace(
                        f"{where}: timestamp {row['timestamp']} is not after the row before it; sort the file"
                        " and drop duplicates"
                    )
                times.append(time)
                counts.append(count)
                lines.append(rows.line_num)
    except OSError as error:
        raise BadTrace(f"{path}: cannot be read: {error.strerror}; give the path of a CSV file") from error
    except UnicodeDecodeError as error:
        raise BadTrace(f"{path}: is not UTF-8 text; export it as CSV") from error
    except csv.Error as error:
        raise BadTrace(f"{path}:{rows.line_num + 1}: {error}; export it as CSV") from error
    if len(times) < 2:
        raise BadTrace(f"{path}: {len(times)} row(s); a trace needs two at least to tell its bin width")
    seconds = np.asarray(times)
    # The lower median: with half of the bins missing, the common distance is still one bin.
    step_s = float(np.percentile(np.diff(seconds), 50, method="lower"))
    slots = np.rint((seconds - seconds[0]) / step_s).astype(np.int64)
    if slots[-1] > 20 * len(times):
        raise BadTrace(
            f"{path}: {slots[-1]} bins of {step_s:g} s, only {len(times)} rows: bins must be equal"
        )
    if (same := np.flatnonzero(np.diff(slots) == 0)).size:
        raise BadTrace(
            f"{path}:{lines[same[0] + 1]}: this row and the one before it fall into one bin of {step_s:g} s;"
            " bins must be equal: add up the requests of each"
        )
    grid = np.full(int(slots[-1]) + 1, np.nan)
    grid[slots] = counts
    return Trace(path.stem, grid, step_s)


def resample(counts: Floats, factor: int) -> Floats:
    """Add up `factor` neighbouring bins; a coarse bin with an unknown part is unknown."""
    whole = len(counts) // factor * factor
    return np.asarray(counts[:whole].reshape(-1, factor).sum(axis=1))


def _time(text: str | None, where: str) -> float:
    text = (text or "").strip()
    try:
        if math.isfinite(seconds := float(text)):
            return seconds
    except ValueError:
        try:
            time = datetime.fromisoformat(text)
        except ValueError:
            pass
        else:
            # The clock of the machine that reads it has hours that come twice or never.
            return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    raise BadTrace(f"{where}: timestamp {text!r} is neither ISO-8601 nor seconds; write it as one of them")


def _count(text: str | None, where: str) -> float:
    try:
        count = float(text or "")
    except ValueError:
        raise BadTrace(f"{where}: requests {text!r} is not a number; write a count, 0 or more") from None
    if not 0.0 <= count <= COUNT_LIMIT:
        raise BadTrace(
            f"{where}: requests {text!r} is not a count; write 0 to {COUNT_LIMIT:g}, or leave the row out"
        )
    return count
