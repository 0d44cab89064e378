"""Reading a traffic trace: `timestamp,requests`, one row per bin, any bin width."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lab.bad_input import BadInput, read_text

Floats = NDArray[np.float64]

_COLUMNS = ("timestamp", "requests")
_MOST_REQUESTS = 1e12  # per bin: beyond it is a broken file, and sums stay exact in float64 below it
_OFF_GRID = 0.25  # share of a bin by which a row may miss its place (clocks of collectors jitter)


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Requests per bin on an even grid.

    timestamps_s: float64[n], start of each bin: seconds since 1970 (UTC) for ISO-8601 files, else the file's
    own seconds. requests: float64[n], requests that arrived in the bin, finite and >= 0. bin_s: width of a
    bin in seconds. notes: what was repaired while reading, in sentences for the user. name: the file's stem.
    """

    timestamps_s: Floats
    requests: Floats
    bin_s: float
    notes: tuple[str, ...] = ()
    name: str = "trace"


def read_trace(path: str | Path) -> Trace:
    """Reads a CSV file with the columns ``timestamp`` (ISO-8601, UTC if it has no offset, or seconds) and
    ``requests``; other columns are ignored.

    Bins that are missing hold the mean of their two neighbours, and ``notes`` says how many those are. Raises
    BadInput naming file, line, value and remedy: no such file, empty file, missing column, fewer than two
    rows, a count that is no number, negative or not finite, times that don't rise, repeat or fall off the
    grid, and a file that leaves out more bins than it holds (which is one that forgot to write its zeros).
    """
    path = Path(path)
    times, counts, lines = _columns(path)
    if len(times) < 2:
        raise BadInput(
            path,
            f"{len(times)} row(s) of data",
            "a trace needs at least 2 rows: its bin width is their distance",
        )
    t = np.asarray(times, dtype=np.float64)
    requests = np.asarray(counts, dtype=np.float64)
    _check_rising(path, t, lines)
    bin_s = _bin_width(np.diff(t))
    skips = _grid_steps(path, t, bin_s, lines)
    full, notes = _fill(requests, skips, lines)
    grid = t[0] + bin_s * np.arange(len(full), dtype=np.float64)
    return Trace(grid, full, bin_s, notes, path.stem)


def _columns(path: Path) -> tuple[list[float], list[float], list[int]]:
    """Times (s), counts and the line number of each row."""
    rows = csv.reader(io.StringIO(read_text(path, "a trace"), newline=""))
    times: list[float] = []
    counts: list[float] = []
    lines: list[int] = []
    try:
        at_time, at_count = _header(path, next(rows, []))
        seconds: bool | None = None
        for row in _filled(rows):
            line = rows.line_num
            if len(row) <= max(at_time, at_count):
                raise BadInput(
                    path, "too few columns", "write `timestamp,requests`", line=line, value=",".join(row)
                )
            if seconds is None:
                seconds = _is_number(row[at_time])
            times.append(_time(path, line, row[at_time].strip(), seconds))
            counts.append(_count(path, line, row[at_count].strip()))
            lines.append(line)
    except csv.Error as error:
        raise BadInput(path, f"not CSV ({error})", "write one row per line", line=rows.line_num) from None
    return times, counts, lines


def _header(path: Path, row: list[str]) -> tuple[int, int]:
    names = [name.strip().lower() for name in row]
    for column in _COLUMNS:
        if column not in names:
            raise BadInput(
                path,
                f"no column '{column}' in the header",
                "the first line must name the columns `timestamp,requests`",
                line=1,
                value=",".join(row),
            )
    return names.index("timestamp"), names.index("requests")


def _filled(rows: Iterator[list[str]]) -> Iterator[list[str]]:
    return (row for row in rows if any(cell.strip() for cell in row))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _time(path: Path, line: int, text: str, seconds: bool) -> float:
    try:
        if seconds:
            value = float(text)
        else:
            moment = datetime.fromisoformat(text)
            value = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        form = "seconds, as in the first row" if seconds else "ISO-8601 (2026-01-31T08:00:00Z) or seconds"
        raise BadInput(path, "timestamp can't be read", f"write it as {form}", line=line, value=text)
    return value


def _count(path: Path, line: int, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise BadInput(
            path, "requests is not a number", "write a count, 0 or more", line=line, value=text
        ) from None
    if not math.isfinite(value):
        raise BadInput(
            path,
            "requests is not finite",
            "leave the row out (its bin is filled from its neighbours) or write a count",
            line=line,
            value=text,
        )
    if value < 0:
        raise BadInput(path, "requests is negative", "write a count, 0 or more", line=line, value=text)
    if value > _MOST_REQUESTS:
        raise BadInput(path, "requests is beyond 1e12 in one bin", "correct the count", line=line, value=text)
    return value


def _check_rising(path: Path, t: Floats, lines: list[int]) -> None:
    wrong = np.flatnonzero(np.diff(t) <= 0)
    if not len(wrong):
        return
    row = int(wrong[0]) + 1
    if t[row] == t[row - 1]:
        raise BadInput(
            path,
            f"the same timestamp as line {lines[row - 1]}",
            "keep one row per bin (sum their requests); local times need an UTC offset",
            line=lines[row],
        )
    raise BadInput(
        path,
        f"timestamp is earlier than that of line {lines[row - 1]}",
        "sort the rows by time; local times need an UTC offset",
        line=lines[row],
    )


def _bin_width(steps: Floats) -> float:
    """The most frequent distance of two rows (the smaller one of two as frequent), smoothed over jitter."""
    values, counts = np.unique(np.round(steps, 6), return_counts=True)
    usual = float(values[int(np.argmax(counts))])
    near = steps[np.abs(steps - usual) <= _OFF_GRID * usual]
    return float(np.median(near)) if len(near) else float(np.min(steps))


def _grid_steps(path: Path, t: Floats, bin_s: float, lines: list[int]) -> NDArray[np.int64]:
    """How many bins each row lies after the one before it: int64[n-1], each >= 1."""
    steps = np.diff(t)
    skips = np.rint(steps / bin_s)
    wrong = np.flatnonzero((skips < 1) | (np.abs(steps - skips * bin_s) > _OFF_GRID * bin_s))
    if len(wrong):
        row = int(wrong[0]) + 1
        raise BadInput(
            path,
            f"{steps[row - 1]:g} s after line {lines[row - 1]}, where bins are {bin_s:g} s wide",
            "write one row per bin of one width",
            line=lines[row],
        )
    missing = float(np.sum(skips - 1))
    if missing > len(t):
        widest = int(np.argmax(skips))
        raise BadInput(
            path,
            f"{missing:.10g} bins are missing and {len(t)} present (widest gap: after line {lines[widest]})",
            "write bins without requests as rows with 0, or cut the trace at the gap",
        )
    return skips.astype(np.int64)


def _fill(requests: Floats, skips: NDArray[np.int64], lines: list[int]) -> tuple[Floats, tuple[str, ...]]:
    missing = int(np.sum(skips - 1))
    if missing == 0:
        return requests, ()
    first = int(np.argmax(skips > 1))
    places = np.concatenate(([0], np.cumsum(skips)))
    full = np.empty(int(places[-1]) + 1, dtype=np.float64)
    present = np.zeros(len(full), dtype=np.bool_)
    present[places] = True
    full[present] = requests
    full[~present] = np.repeat((requests[:-1] + requests[1:]) / 2, skips - 1)
    note = (
        f"{missing} of {len(full)} bins were missing (the first after line {lines[first]}) "
        "and hold the mean of their neighbours"
    )
    return full, (note,)
