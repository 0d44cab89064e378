"""Writes `lab/data/demo_trace.csv`, the small trace that the project ships. It is SYNTHETIC: nobody's
traffic.

Four hours of one-minute bins that hold what an autoscaler meets: a quiet night, a morning ramp, a flash crowd
that triples the load within three minutes and ebbs away, and the noise of counting. Run as `python -m
lab.demo_trace`; the same seed writes the same file.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DEMO_TRACE = Path(__file__).resolve().parent / "data" / "demo_trace.csv"

_SEED = 20_260_131
_START = datetime(2026, 1, 31, 6, 0, tzinfo=UTC)
_BINS = 240
_NIGHT, _DAY = 240.0, 1000.0  # requests per minute
_CROWD_AT, _CROWD_RISE, _CROWD_EBB, _CROWD = 150, 3, 22.0, 2200.0


def intensity() -> NDArray[np.float64]:
    """The noise-free requests per minute: float64[240]."""
    minute = np.arange(_BINS, dtype=np.float64)
    morning = _NIGHT + (_DAY - _NIGHT) / (1 + np.exp(-(minute - 95) / 14))
    since = minute - _CROWD_AT
    rise = np.clip((since + 1) / _CROWD_RISE, 0, 1)
    ebb = np.exp(-np.clip(since - _CROWD_RISE, 0, None) / _CROWD_EBB)
    return morning + _CROWD * rise * ebb


def counts() -> NDArray[np.int64]:
    """Requests in each minute: int64[240]. Noise is Poisson around an intensity that itself wavers by 4 %
    (autocorrelated), since real traffic is burstier than Poisson."""
    random = np.random.default_rng(_SEED)
    waver = np.zeros(_BINS)
    for minute in range(1, _BINS):
        waver[minute] = 0.8 * waver[minute - 1] + random.normal(0, 0.04 * 0.6)
    return random.poisson(intensity() * np.exp(waver)).astype(np.int64)


def csv_text() -> str:
    """The file's text."""
    rows = [
        f"{(_START + timedelta(minutes=minute)).strftime('%Y-%m-%dT%H:%M:%SZ')},{count}"
        for minute, count in enumerate(counts())
    ]
    return "\n".join(["timestamp,requests", *rows]) + "\n"


if __name__ == "__main__":
    DEMO_TRACE.write_text(csv_text(), encoding="utf-8")
