"""Periods of a series, found and not assumed, and what they say of the steps to come.

Two rings remember the series on a grid of its own: the last FINE steps, and COARSE times as long in sums of ten
steps; with steps of a minute that is 2.8 days and 28 days, in 64 kB. A period is what the *changes* of the series
repeat at: the changes of a random walk repeat at nothing, so noise is told from rhythm by a plain test of their
autocorrelation, while that of the levels would find a period in every drift.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from services.predictor.forecast import HORIZONS, Floats, Origins
from services.predictor.linear import between, places
from services.predictor.origins import count_ending

RING = 4096
"""Entries of each ring."""

COARSE = 10
"""Steps in an entry of the coarse ring."""

FINE_MOST = 1600
"""Longest period, in entries, looked for in a ring: two and a half of them must be there."""

LEAST_CYCLES = 2.5
"""Cycles that must be known of a period."""

SIGNIFICANCE = 5.0
"""Standard errors by which the autocorrelation of changes must be above zero: thousands of lags are looked at."""

LEAST_CORRELATION = 0.3
"""And how large it must be: what explains less is not worth its noise."""

LEAST_CORRELATION_LEFT = 0.5
"""The same for a second period, in what the first one leaves: smoothing leaves echoes."""

HABITS_S = (86_400.0, 604_800.0)
"""A period found this near (HABIT) to a day or a week is one: a correlation tells it to some percent only."""

HABIT = 0.025

CYCLES = 6
"""Cycles that are averaged."""

SMOOTH = 96
"""Share of a period (1/SMOOTH to both sides) over which cycles are smoothed, if that foretells the last one better."""

SEARCH_EVERY = 48
"""Entries after which periods are looked for again."""

_FADING = np.array([0.8**cycle for cycle in range(CYCLES)])


@dataclass(frozen=True)
class Outlook:
    """What the found periods say: log1p of counts relative to the series' long level.

    changes: from now to each of HORIZONS. expected: of the last step. level: what they are relative to, requests
    per step. strength: share of the changes that is explained, 0..1. periods_s: seconds, the longest last. phases:
    sine and cosine of the place in the longest and in the shortest period, where there are two, counted from the
    highest point: of a day and a week that is time of day and day of week.
    """

    changes: Floats
    expected: float
    level: float
    strength: float
    periods_s: tuple[float, ...]
    phases: tuple[float, float, float, float]


@dataclass(frozen=True)
class Period:
    """length: in entries of the ring. strength: autocorrelation of the changes at that lag."""

    length: float
    strength: float


class Ring:
    """The last RING entries of one grid."""

    def __init__(self) -> None:
        self.values = np.full(RING, np.nan)
        self.since_search = 0
        self.periods: list[Period] = []
        self.shapes: list[Floats] = []
        self.tops: list[float] = []
        self.level = 1.0

    def push(self, values: Floats) -> None:
        """Append entries; NaN where unknown."""
        values = values[-RING:]
        n = len(values)
        if n:
            self.values[:-n] = self.values[n:]
            self.values[-n:] = values
            self.since_search += n

    def known(self) -> Floats:
        """The entries from the first known one on."""
        there = np.flatnonzero(np.isfinite(self.values))
        return self.values[there[0] :] if there.size else self.values[:0]

    def search(self, shortest: float, longest: float, entry_s: float) -> None:
        """Find up to two periods between these lengths, the second in what the first leaves.

        entry_s: seconds in an entry.
        """
        self.since_search = 0
        self.periods, self.shapes, self.tops = [], [], []
        counts = self.known()
        if len(counts) < 16:
            return
        self.level = float(np.nanmean(counts)) or 1.0
        log = np.log1p(_filled(counts) / self.level)
        for _ in range(2):
            period = find(log, shortest, min(longest, len(log) / LEAST_CYCLES))
            if period is None or (self.periods and period.strength < LEAST_CORRELATION_LEFT):
                break
            if any(abs(period.length / one.length - 1) < 0.05 for one in self.periods):
                break
            for habit in HABITS_S:
                if abs(period.length * entry_s / habit - 1) < HABIT:
                    period = replace(period, length=habit / entry_s)
            smooth = _shape(log, period.length)
            self.periods.append(period)
            self.shapes.append(smooth)
            self.tops.append(_top(smooth, period.length))
            log = log - _cycles(smooth, period.length, np.arange(len(log), dtype=np.float64))

    def expected(self, at: Floats) -> Floats:
        """What the periods say at `at`, in entries after the newest one when they were searched; log."""
        total = np.zeros(at.shape)
        for period, shape in zip(self.periods, self.shapes, strict=True):
            total += _cycles(shape, period.length, at + len(shape) - 1)
        return total

    def angles(self, at: Floats) -> list[tuple[float, Floats]]:
        """For each period its length in entries and the angles of `at` in it, from its top on."""
        return [
            (period.length, 2 * np.pi * (at - top) / period.length)
            for period, top in zip(self.periods, self.tops, strict=True)
        ]


class Seasons:
    """See the module. One per series; forecasters that share one share its memory.

    replaying: while true, a time before what is remembered is a look back and no clock that was set back.
    """

    def __init__(self) -> None:
        self.replaying = False
        self._step_s = 0.0
        self._forget()

    def _forget(self) -> None:
        self._fine, self._coarse = Ring(), Ring()
        self._at = 0.0
        self._steps = 0
        self._outlooks: tuple[tuple[float, ...], tuple[Outlook, ...]] | None = None

    def observe(self, history: Floats, step_s: float, now: float) -> Outlook | None:
        """Remember what this history adds, and say what is to come; None while no period is known.

        Asking twice at the same time changes nothing. A clock that was set back moves the memory with it.
        """
        found = self.outlooks(Origins.one(history, step_s, now))
        return None if found is None else found[0]

    def outlooks(self, origins: Origins) -> tuple[Outlook, ...] | None:
        """The same for some origins: remembered is what the first adds, said what is to come at each."""
        self._remember(origins.histories[0], origins.step_s, origins.nows[0])
        if self._outlooks is None or self._outlooks[0] != origins.nows:
            if not self._fine.periods and not self._coarse.periods:
                self._outlooks = None
                return None
            self._outlooks = (origins.nows, self._look(np.asarray(origins.nows)))
        return self._outlooks[1]

    def _remember(self, history: Floats, step_s: float, now: float) -> None:
        if step_s != self._step_s:
            self._step_s = step_s
            self._forget()
        if self._steps == 0:
            self._at = now
            self._add(history)
        elif now < self._at - 1e-6:
            if not self.replaying:
                self._at = now
        else:
            passed = int((now - self._at) / step_s + 1e-6)
            if passed:
                ends = self._at + step_s * np.arange(max(1, passed - RING * COARSE), passed + 1)
                self._add(np.array([count_ending(history, step_s, now, float(end)) for end in ends]))
                self._at += passed * step_s

    def dump(self) -> dict[str, Any]:
        """What it remembers, as JSON."""
        rings = {
            name: [None if v != v else round(v, 3) for v in ring.known().tolist()]  # noqa: PLR0124  # NaN
            for name, ring in (("fine", self._fine), ("coarse", self._coarse))
        }
        return {"step_s": self._step_s, "at": self._at, "steps": self._steps % COARSE, **rings}

    def restore(self, saved: Any, step_s: float, now: float) -> bool:
        """Put back what `dump` gave if it is of this step and not of the future; whether it was used."""
        try:
            at, phase = float(saved["at"]), int(saved["steps"])
            rings = [
                np.array([np.nan if v is None else float(v) for v in saved[name]], dtype=np.float64)
                for name in ("fine", "coarse")
            ]
            if float(saved["step_s"]) != step_s or not at <= now or not 0 <= phase < COARSE:
                return False
        except (TypeError, KeyError, ValueError):
            return False
        if not rings[0].size or any(np.isinf(ring).any() or (ring < 0).any() for ring in rings):
            return False
        self._step_s = step_s
        self._forget()
        self._fine.push(rings[0])
        self._coarse.push(rings[1])
        self._at, self._steps = at, COARSE + phase
        self._search()
        return True

    def _add(self, counts: Floats) -> None:
        whole = (
            self._fine.values[RING - self._steps % COARSE :]
            if self._steps % COARSE
            else self._fine.values[:0]
        )
        self._fine.push(counts)
        sums = np.concatenate([whole, counts])
        count = len(sums) // COARSE
        if count:
            parts = sums[: count * COARSE].reshape(count, COARSE)
            there = np.isfinite(parts).sum(axis=1)
            scaled = np.nansum(parts, axis=1) * COARSE / np.maximum(there, 1)
            self._coarse.push(np.where(there >= COARSE / 2, scaled, np.nan))
        self._steps += len(counts)
        if self._fine.since_search >= SEARCH_EVERY:
            self._search()

    def _search(self) -> None:
        entries = len(self._coarse.known())
        if entries >= 120:
            self._coarse.search(48, FINE_MOST, self._step_s * COARSE)
        long = self._coarse.periods
        # What the coarse ring knows with more cycles is left to it.
        longest = min(p.length for p in long) * COARSE / 2 if long else FINE_MOST
        self._fine.search(4, longest, self._step_s)

    def _look(self, nows: Floats) -> tuple[Outlook, ...]:
        since = (nows - self._at) / self._step_s
        ahead = np.concatenate([[0.0], HORIZONS]) + since[:, None]
        said = np.zeros(ahead.shape)
        angles: list[tuple[float, Floats]] = []
        if self._fine.periods:
            said += self._fine.expected(ahead + self._fine.since_search)
            angles += self._fine.angles(since + self._fine.since_search)
        if self._coarse.periods:
            # An entry stands for the middle of its ten steps.
            middle = self._steps % COARSE + (COARSE - 1) / 2
            said += self._coarse.expected((ahead + middle) / COARSE + self._coarse.since_search)
            found = self._coarse.angles((since + middle) / COARSE + self._coarse.since_search)
            angles += [(length * COARSE, angle) for length, angle in found]
        angles.sort(key=lambda one: one[0])
        longest = angles[-1][1]
        phases = [np.sin(longest), np.cos(longest), np.zeros(len(nows)), np.zeros(len(nows))]
        if len(angles) > 1:
            shortest = angles[0][1]
            phases[2:] = np.sin(shortest), np.cos(shortest)
        level = self._fine.level if self._fine.periods else self._coarse.level / COARSE
        strength = max(period.strength for period in (*self._fine.periods, *self._coarse.periods))
        periods_s = tuple(length * self._step_s for length, _ in angles)
        changes = said[:, 1:] - said[:, :1]
        return tuple(
            Outlook(change, expected, level, strength, periods_s, phase)
            for change, expected, phase in zip(
                changes, said[:, 0].tolist(), zip(*(one.tolist() for one in phases), strict=True), strict=True
            )
        )


def find(log: Floats, shortest: float, longest: float) -> Period | None:
    """The period at which the changes of `log` repeat; None when none is significant. Lengths in entries."""
    best: tuple[float, Period] | None = None
    n = len(log)
    lead = 1
    while 4 * lead <= longest:
        smooth = _smoothed(log, lead // 4)
        change = smooth[lead:] - smooth[:-lead]
        limit = 4 * float(np.abs(change).mean())
        change = np.clip(change, -limit, limit)  # one flash crowd is no rhythm
        change -= change.mean()
        first, last = int(max(shortest, 4 * lead)), int(longest)
        if last > first + 2 and change.any():
            ratio = _autocorrelation(change, last + 2)
            # Bartlett's standard error for changes over `lead` entries, which overlap, of a smoothed random walk.
            error = np.sqrt((0.9 * lead + 0.5) / (n - np.arange(last + 2)))
            z = ratio / error
            peaks = np.arange(first, last + 1)
            peaks = peaks[(ratio[peaks] >= ratio[peaks - 1]) & (ratio[peaks] >= ratio[peaks + 1])]
            peaks = peaks[(z[peaks] > SIGNIFICANCE) & (ratio[peaks] > LEAST_CORRELATION)]
            # Before it comes back it must have gone: ripples on a slow swing are no period.
            peaks = peaks[np.minimum.accumulate(ratio)[peaks] < 0.3 * ratio[peaks]]
            if peaks.size:
                top = peaks[np.argmax(ratio[peaks])]
                # The first of the peaks that are nearly as high is the period, the others are its multiples.
                top = peaks[ratio[peaks] >= 0.85 * ratio[top]][0]
                power = float(ratio[top]) * float(change.std())
                if best is None or power > best[0]:
                    best = (power, Period(_refined(ratio, int(top), last), float(ratio[top])))
        lead *= 2
    return None if best is None else best[1]


def _autocorrelation(values: Floats, lags: int) -> Floats:
    n = len(values)
    spectrum = np.fft.rfft(values, 1 << (2 * n - 1).bit_length())
    sums = np.fft.irfft(spectrum * spectrum.conj())[:lags]
    return np.asarray(sums / sums[0] * n / (n - np.arange(lags)))


def _shape(log: Floats, length: float) -> Floats:
    """The series as its cycles are told by: smoothed where noise hides their shape, as it is where that has edges."""
    half = int(length / SMOOTH)
    smooth = _smoothed(log, half)
    if half == 0:
        return log
    last = np.arange(len(log) - int(length), len(log), dtype=np.float64)
    errors = [np.abs(log[-len(last) :] - _cycles(one, length, last)).mean() for one in (log, smooth)]
    return log if errors[0] < errors[1] else smooth


def _refined(ratio: Floats, top: int, last: int) -> float:
    """The length of the period that peaks at lag `top`, told by the farthest of its multiples up to `last`."""
    length = float(top)
    multiple = 2
    while (multiple + 0.2) * length <= last:
        middle, reach = round(multiple * length), max(int(length / 6), 1)
        peak = middle - reach + int(np.argmax(ratio[middle - reach : middle + reach + 1]))
        if ratio[peak] < 0.5 * ratio[top]:
            break
        length = peak / multiple
        multiple += 1
    return length


def _top(shape: Floats, length: float) -> float:
    """Where the last cycle's first harmonic is highest, in entries after the newest one (negative)."""
    entries = np.arange(-int(length) + 1, 1)
    turns = np.exp(-2j * np.pi * entries / length)
    angle = float(np.angle(np.sum(shape[-len(entries) :] * turns)))
    return -angle * length / (2 * np.pi)


def _smoothed(log: Floats, half: int) -> Floats:
    if half == 0:
        return log
    width = 2 * half + 1
    padded = np.concatenate([np.full(half + 1, log[0]), log, np.full(half, log[-1])])
    sums = np.cumsum(padded)
    return np.asarray((sums[width:] - sums[:-width]) / width)


def _filled(counts: Floats) -> Floats:
    known = np.isfinite(counts)
    if known.all():
        return np.maximum(counts, 0.0)
    return np.maximum(np.interp(np.arange(len(counts)), np.flatnonzero(known), counts[known]), 0.0)


def _cycles(shape: Floats, length: float, at: Floats) -> Floats:
    """Mean over the cycles before each of `at` (index into `shape`, may lie beyond its end), of any form."""
    skip = np.maximum(np.ceil((at - (len(shape) - 1)) / length), 1.0)
    cycles = np.arange(CYCLES, dtype=np.float64).reshape(-1, *(1,) * at.ndim)
    place = at - (skip + cycles) * length
    there = (place >= 0) * _FADING.reshape(cycles.shape)
    said = there * between(shape, places(len(shape), place))
    return np.asarray(said.sum(axis=0) / np.maximum(there.sum(axis=0), 1e-12))
