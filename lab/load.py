"""From a trace to the load of a simulated run: arrivals in each second, and the rate that they were drawn from."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lab.intensity import intensity
from lab.queueing import GAPS
from lab.schedule import Schedule
from lab.trace import Trace

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

HISTORY_S = 18_000
"""Seconds of arrivals before the judged part that are drawn, too: what a forecaster has seen by then."""

WARM_UP_S = 3_600
"""Seconds before the judged part that a policy lives through: what it learns online is not learned in the first hour
that is judged, as it would not be on any but the first day of its life."""

NEED_WINDOW_S = 10
"""Bins narrower than this are averaged over it where it says what was needed: shorter surges are a queue's to take."""

_STREAMS = ("arrivals", "gaps", "starts")


@dataclass(frozen=True, slots=True, eq=False)
class Load:
    """Seconds [0, n) are judged; those before are history.

    began_at: epoch seconds (or the trace's own) of second 0. before: int64[h], arrivals of each second before it.
    arrivals: int64[n]. rates_rps: float64[n], expected requests per second, what `need` is made of. intensity_rps:
    float64[n], the same without the noise of single bins. dispersion: variance of a bin's expected count over
    its intensity, as scaled. bin_s: width of the trace's bins. scale: requests of the run per request of the
    trace. gaps, places: where within its second a request arrives (see lab.queueing). seed: for the starts.
    """

    name: str
    began_at: float
    before: Ints
    arrivals: Ints
    rates_rps: Floats
    intensity_rps: Floats
    dispersion: float
    bin_s: float
    scale: float
    gaps: Floats
    places: Ints
    seed: int

    def random(self, stream: str) -> np.random.Generator:
        """The generator of one stream of chance, the same for every policy and start delay."""
        return _random(self.name, self.seed, stream)


def part(trace: Trace, first: float, stop: float) -> tuple[int, int]:
    """The bins [a, b) between two shares (0..1) of a trace; raises ValueError where none is left."""
    bins = len(trace.requests)
    a, b = round(bins * first), round(bins * stop)
    if b - a < 1:
        raise ValueError(f"trace '{trace.name}': no bin lies between the shares {first:g} and {stop:g}")
    return a, b


def busiest(trace: Trace, bins: tuple[int, int], seconds: float) -> tuple[int, int]:
    """The stretch of at most so many seconds with the most requests within the bins [a, b)."""
    first, stop = bins
    width = max(1, int(seconds // trace.bin_s))
    if width >= stop - first:
        return bins
    total = np.concatenate(([0.0], np.cumsum(trace.requests[first:stop])))
    begin = first + int(np.argmax(total[width:] - total[:-width]))
    return begin, begin + width


def scale_for(trace: Trace, bins: tuple[int, int], mean_rps: float) -> float:
    """Factor that gives the bins [a, b) the mean rate `mean_rps`; raises ValueError when they are all zero."""
    mean = float(np.mean(trace.requests[bins[0] : bins[1]])) / trace.bin_s
    if mean <= 0:
        raise ValueError(
            f"trace '{trace.name}' has no requests in the part that is judged; nothing can be scaled"
        )
    return mean_rps / mean


def load(trace: Trace, bins: tuple[int, int], scale: float, seed: int) -> Load:
    """Draw the load of the bins [a, b) of a trace; the same arguments give the same load bit for bit.

    Within a bin the rate runs linearly between the middles of the bins, such that the bin keeps its count. Arrivals of
    a second are Poisson of its rate. Raises ValueError unless bins last whole seconds.
    """
    width = round(trace.bin_s)
    if width < 1 or abs(width - trace.bin_s) > 1e-6:
        raise ValueError(f"trace '{trace.name}' has bins of {trace.bin_s:g} s; the lab needs whole seconds")
    first, stop = bins
    history = min(first, -(-HISTORY_S // width))
    # A bin more on each side, so that the slope at the edges is the trace's own.
    low, high = max(0, first - history - 1), min(len(trace.requests), stop + 1)
    counts = trace.requests[low:high] * scale
    rates = _by_second(counts, width)
    begin, end = (first - low) * width, (stop - low) * width
    smooth, dispersion = intensity(trace.requests[low:high])
    drawn = _random(trace.name, seed, "arrivals").poisson(rates[:end])
    gaps, places = _places(drawn[begin:end], _random(trace.name, seed, "gaps"))
    return Load(
        name=trace.name,
        began_at=float(trace.timestamps_s[first]),
        before=drawn[max(0, begin - HISTORY_S) : begin],
        arrivals=drawn[begin:end],
        rates_rps=_averaged(rates, NEED_WINDOW_S if width < NEED_WINDOW_S else 1)[begin:end],
        intensity_rps=_by_second(smooth * scale, width)[begin:end],
        dispersion=dispersion * scale,
        bin_s=trace.bin_s,
        scale=scale,
        gaps=gaps,
        places=places,
        seed=seed,
    )


def from_schedule(schedule: Schedule, trace: Trace, seed: int) -> Load:
    """The load that a live replay of a schedule is; `seed` draws the places within a second and the starts."""
    seconds = len(schedule.rates_rps)
    counts = np.bincount(np.minimum(schedule.offsets_s.astype(np.int64), seconds - 1), minlength=seconds)
    gaps, places = _places(counts, _random(trace.name, seed, "gaps"))
    return Load(
        name=trace.name,
        began_at=float(trace.timestamps_s[schedule.window.first]),
        before=schedule.history.astype(np.int64),
        arrivals=counts,
        rates_rps=schedule.rates_rps,
        intensity_rps=schedule.rates_rps,
        dispersion=0.0,
        bin_s=schedule.window.step_s,
        scale=schedule.scale,
        gaps=gaps,
        places=places,
        seed=seed,
    )


def _random(name: str, seed: int, stream: str) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(name.encode()), _STREAMS.index(stream)])


def _by_second(counts: Floats, width: int) -> Floats:
    """float64[n * width], requests per second, of counts per bin of `width` seconds."""
    if width == 1:
        return counts.copy()
    middles = (np.arange(len(counts)) + 0.5) * width
    seconds = np.arange(len(counts) * width) + 0.5
    shape = np.interp(seconds, middles, counts).reshape(len(counts), width)
    total = shape.sum(axis=1)
    factor = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
    rates: Floats = (shape * factor[:, None]).ravel()
    return rates


def _averaged(rates: Floats, seconds: int) -> Floats:
    """The centred mean over so many seconds."""
    if seconds <= 1:
        return rates
    kernel = np.ones(seconds)
    mean: Floats = np.convolve(rates, kernel, mode="same") / np.convolve(
        np.ones(len(rates)), kernel, mode="same"
    )
    return mean


def _places(arrivals: Ints, random: np.random.Generator) -> tuple[Floats, Ints]:
    most = int(arrivals.max(initial=0))
    gaps = np.concatenate(([0.0], np.cumsum(random.standard_exponential(GAPS + most + 1))))
    return gaps, random.integers(0, GAPS, len(arrivals))
