"""From a trace to moments of arrival: choose a window, compress time, scale to the machine, draw the
arrivals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lab.trace import Trace

Floats = NDArray[np.float64]

_ORDINARY = 1 / 3  # share of the window that lies before its largest rise
_RISE_SPAN = (
    12  # a rise is judged between means over one twelfth of the window, so that one noisy bin is none
)
_LONGEST_S = 86_400.0
_MOST_ARRIVALS = 20_000_000
_HISTORY_S = 900.0
_THIN = 30.0  # requests per bin below which counting noise (1 / sqrt) exceeds 18 %


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Which bins of a trace are replayed, and how long one of them lasts.

    first, stop: bins [first, stop) of the trace. step_s: seconds of demo time that one bin lasts (whole
    seconds). compression: seconds of the trace per second of demo time.
    """

    first: int
    stop: int
    step_s: float
    compression: float


@dataclass(frozen=True, slots=True, eq=False)
class Schedule:
    """When each request is to be sent, and what the load really is.

    offsets_s: float64[k], seconds from the start, ascending. duration_s: length of the replay. rates_rps:
    float64[ceil(duration_s)], the expected (noise-free) requests per second in each second. history:
    float64[h], whole requests in each second of demo time before the start, oldest first (may be empty): what
    a forecaster would have counted had it been there. window: see Window. scale: requests of the replay per
    request of the trace. notes: what was chosen, in sentences for the user.
    """

    offsets_s: Floats
    duration_s: float
    rates_rps: Floats
    history: Floats
    window: Window
    scale: float
    notes: tuple[str, ...]


def choose_window(trace: Trace, duration_s: float) -> Window:
    """The part of the trace that is worth ``duration_s`` seconds of somebody's time.

    One bin lasts one second, or as many whole seconds as are needed for the trace to cover the duration.
    Where the trace is longer than that, the window is put around its largest rise: the largest difference
    between the mean of the next and of the last w/12 bins (w bins in a window), lying at a third of the
    window, so that ordinary traffic is seen before it and the way down after it.
    """
    bins = len(trace.requests)
    step_s = float(max(1, math.ceil(duration_s / bins)))
    width = min(bins, math.ceil(duration_s / step_s))
    first = 0
    if width < bins:
        first = _place(_largest_rise(trace.requests, max(1, width // _RISE_SPAN)), width, bins)
        if not np.any(trace.requests[first : first + width] > 0):
            first = _place(int(np.argmax(trace.requests)), width, bins)
    return Window(first, first + width, step_s, trace.bin_s / step_s)


def arrivals(
    trace: Trace, duration_s: float, peak_rps: float, seed: int, *, history_s: float = _HISTORY_S
) -> Schedule:
    """Open-loop arrivals of ``duration_s`` seconds whose busiest bin has ``peak_rps`` requests per second.

    Within a bin the arrivals are a Poisson process of the bin's rate (numpy's PCG64 seeded with ``seed``: the
    same arguments give the same arrivals bit for bit, and the history doesn't depend on the arrivals drawn).
    Raises ValueError for a duration outside 1 s to a day, a peak that isn't positive and finite, more than
    twenty million arrivals, a trace without requests.
    """
    if not 1 <= duration_s <= _LONGEST_S:
        raise ValueError(f"duration {duration_s:g} s is outside 1 .. {_LONGEST_S:g} s")
    if not (math.isfinite(peak_rps) and peak_rps > 0):
        raise ValueError(f"peak rate {peak_rps:g} requests per second isn't positive and finite")
    if not np.any(trace.requests > 0):
        raise ValueError(f"trace '{trace.name}' has no requests at all: there is nothing to replay")
    window = choose_window(trace, duration_s)
    counts = trace.requests[window.first : window.stop]
    rates = counts * (peak_rps / float(np.max(counts)))  # requests per second of each bin
    edges = np.minimum(np.arange(len(rates) + 1) * window.step_s, duration_s)
    expected = float(np.sum(rates * np.diff(edges)))
    if expected > _MOST_ARRIVALS:
        raise ValueError(
            f"{expected:.0f} arrivals are too many ({_MOST_ARRIVALS}): lower the peak or the duration"
        )
    for_arrivals, for_history = np.random.SeedSequence(seed).spawn(2)
    offsets = _poisson(rates, edges, np.random.default_rng(for_arrivals))
    scale = peak_rps * window.step_s / float(np.max(counts))
    history = _history(trace, window, scale, history_s, np.random.default_rng(for_history))
    return Schedule(
        offsets_s=offsets,
        duration_s=float(duration_s),
        rates_rps=_per_second(rates, window.step_s, duration_s),
        history=history,
        window=window,
        scale=scale,
        notes=(*trace.notes, _say(trace, window, scale), *_warn_thin(counts, scale)),
    )


def _largest_rise(requests: Floats, span: int) -> int:
    """The bin at which the mean of the ``span`` bins from it on exceeds that of the ``span`` before it
    most."""
    total = np.concatenate(([0.0], np.cumsum(requests)))
    middle = np.arange(span, len(requests) - span + 1)
    if not len(middle):
        return 0
    rise = (total[middle + span] - total[middle]) - (total[middle] - total[middle - span])
    return int(middle[int(np.argmax(rise))])


def _place(bin_: int, width: int, bins: int) -> int:
    return min(max(0, bin_ - int(width * _ORDINARY)), bins - width)


def _poisson(rates: Floats, edges: Floats, random: np.random.Generator) -> Floats:
    """A Poisson process given its count is as many uniform points, so bins are drawn at once and sorted
    once."""
    counts = random.poisson(rates * np.diff(edges))
    starts, widths = np.repeat(edges[:-1], counts), np.repeat(np.diff(edges), counts)
    offsets: Floats = np.sort(starts + widths * random.random(int(np.sum(counts))))
    return offsets


def _history(
    trace: Trace, window: Window, scale: float, history_s: float, random: np.random.Generator
) -> Floats:
    """Counts per second of demo time before the window, at most ``history_s`` seconds of whole bins."""
    bins = min(window.first, int(history_s // window.step_s))
    before = trace.requests[window.first - bins : window.first]
    per_second = np.repeat(before * scale / window.step_s, int(window.step_s))
    return random.poisson(per_second).astype(np.float64)


def _per_second(rates: Floats, step_s: float, duration_s: float) -> Floats:
    second = np.arange(math.ceil(duration_s))
    per_second: Floats = rates[np.minimum((second // step_s).astype(np.int64), len(rates) - 1)]
    return per_second


def _warn_thin(counts: Floats, scale: float) -> tuple[str, ...]:
    mean = float(np.mean(counts))
    if scale <= 1 or mean >= _THIN:
        return ()
    return (
        f"the trace has {mean:.1f} requests per bin on average: scaled up {scale:.0f} times, its counting "
        "noise is scaled up too and looks like load",
    )


def _say(trace: Trace, window: Window, scale: float) -> str:
    part = f"bins {window.first} to {window.stop - 1} of {len(trace.requests)}"
    if window.stop - window.first == len(trace.requests):
        part = f"all {len(trace.requests)} bins"
    return (
        f"trace '{trace.name}': {part}, one bin of {trace.bin_s:g} s lasts {window.step_s:g} s "
        f"(time compressed {window.compression:g} times), requests scaled by {scale:.3g}"
    )
