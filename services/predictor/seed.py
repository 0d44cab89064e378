"""A history given as a file, for replays: what would have been counted before the replay's first request."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from services.common.logs import logger
from services.predictor.forecast import Floats
from services.predictor.traces import BadTrace, read

log = logger("foremesh.predictor")


@dataclass(frozen=True)
class Seed:
    """counts: requests per second, oldest first, NaN where unknown; identity: tells one file from another."""

    counts: Floats
    identity: str


def read_file(path: Path) -> Seed:
    """Read a CSV with columns timestamp,requests in bins of whole seconds; raises BadTrace or OSError."""
    state = path.stat()
    trace = read(path)
    width = round(trace.step_s)
    if width < 1 or abs(trace.step_s - width) > 1e-6:
        raise BadTrace(f"{path}: bins of {trace.step_s:g} s; a history needs whole seconds")
    counts = np.repeat(trace.counts / width, width)
    return Seed(counts, f"{state.st_mtime_ns}-{state.st_size}")


def read_or_none(path: Path) -> Seed | None:
    """The same; None, with a word in the log, when there is no such file or it cannot be used."""
    try:
        return read_file(path)
    except FileNotFoundError:
        return None
    except (OSError, BadTrace) as error:
        log.warning("history file not used", extra={"why": str(error)})
        return None
