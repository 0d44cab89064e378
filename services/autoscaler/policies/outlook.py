"""What the load will be when a replica ordered now is ready: the forecast and the last seconds, weighed by what each
has been worth on this very series, and how far from that it may be.

A forecast is made of minutes, a burst of seconds. Which of the two tells more differs from one kind of traffic to the
next and from one start delay to the next, so it is learned and not set. So is how much of an error to expect: more
while errors are large, while the last seconds stray from the last minutes, or where the forecast says so itself.

`advance` and `expect` work on arrays alone, so that the lab can compile what runs as plain Python live
(lab/compiled.py).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.autoscaler.observation import ForecastView
from services.autoscaler.policies import errors, least_squares

Floats = NDArray[np.float64]

MEANS_S = np.array([3.0, 8.0, 20.0, 60.0, 300.0])
"""Time constants of the running means of the rate, from a burst to the level of minutes."""

_LEVEL = 3  # of them, that of a minute: what all others are taken relative to

PRIOR = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
"""Weights before anything was learned, in the order of inputs: the forecast alone."""

SIZE_PRIOR = np.array([1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
"""The same for the size of an error: as large as errors are on average."""

STRENGTH = 20.0
"""Samples that the priors are worth."""

MEMORY = 6000.0
"""Samples after which one counts 1/e: ten hours."""

LATELY = 60.0
"""Samples over which errors count as those of late."""

LEAST_SIZE = 0.8
"""Of the mean error: no error is expected to be smaller than that."""

OUTCOME_S = 10
"""Seconds over which a load is measured when it has come: shorter surges are a queue's to take."""

SAMPLE_EVERY_S = 6.0
"""Seconds between two samples, at most; a third of the lead where that is shorter: outcomes nearer to each other tell
the same."""

SOLVE_EVERY = 10
"""Samples between two looks at what the weights should be."""

WIDEST = 1.5
"""Nothing is expected this many times above or below all that is known: a line must not be drawn too far."""

LEAST_RPS = 0.1
"""Requests per second below which noise is not taken to become smaller, where the capacity of a replica is not known;
else it is that: what one replica carries decides nothing, and a jump out of nothing would be a giant in units of it."""

BOLDEST = 6.0
"""Length of a sample's inputs beyond which it counts as if it were no longer: one jump must not outweigh an hour."""

MOST_MISSED = 4.0
"""Of the mean error, or of chance where that is more: by no more than that was a sample missed when it teaches. A jump
that nothing announced says how wrong one may be, and nothing of how the next minute follows from this one."""

MOST_SIZE = 4.0
"""Of the mean error: none is expected to be larger than that on average."""

LARGEST = 2.0
"""Times the largest error of late: none is expected to be larger than that once many are known, and none larger than
that one itself while few are."""

MANY = 600.0
"""Errors that are half of many."""

LEAST_ERROR = 0.05
"""In the units of errors: those of a time of no load must not be the measure of all."""

HORIZONS = 3

MOST_WAITING = 512
"""Samples that wait for their outcome; beyond that none is taken."""

_INPUTS, _SIZES = len(PRIOR), len(SIZE_PRIOR)

SAMPLE = np.dtype(
    [
        ("level", "f8"),
        ("said", "f8", HORIZONS),
        ("due", "f8", HORIZONS),
        ("came", "f8", HORIZONS),
        ("size", "f8", HORIZONS),
        ("inputs", "f8", _INPUTS),
        ("sizes", "f8", _SIZES),
    ]
)
"""What was known at a tick, what was said of each horizon, when it is due, and, NaN until it comes, what came."""

MOST_QUANTILES = 8

LEARNED = np.dtype(
    [
        ("asked", "i8"),  # quantiles
        ("quantiles", "f8", MOST_QUANTILES),
        # At the last tick: seconds ahead, what is expected then, of that the quantile that was asked for, and all of
        # them (where a sample was taken, else the two next to that one); requests per second.
        ("ahead_s", "f8", HORIZONS),
        ("rates_rps", "f8", HORIZONS),
        ("high_rps", "f8", HORIZONS),
        ("all_rps", "f8", (MOST_QUANTILES, HORIZONS)),
        ("sampled_at", "f8"),
        ("learned", "i8"),  # samples
        ("taken", "i8"),  # samples
        ("noted", "i8", HORIZONS),  # samples whose outcome is known
        ("means", "f8", len(MEANS_S)),
        ("matrix", "f8", (_INPUTS, _INPUTS)),
        ("sums", "f8", (HORIZONS, _INPUTS)),
        ("weights", "f8", (HORIZONS, _INPUTS)),
        ("size_matrix", "f8", (_SIZES, _SIZES)),
        ("size_sums", "f8", (HORIZONS, _SIZES)),
        ("size_weights", "f8", (HORIZONS, _SIZES)),
        ("typical", "f8", HORIZONS),  # mean sizes of errors
        ("lately", "f8", HORIZONS),
        ("largest", "f8", HORIZONS),  # error, fading
        ("in_turn", "f8", (HORIZONS, errors.MEMORY)),
        ("ordered", "f8", (HORIZONS, errors.MEMORY + 1)),
        ("waiting", SAMPLE, MOST_WAITING),
    ]
)
"""All that was learned, and what it says now."""


def begin(memory: Any, rates_rps: list[float]) -> bool:
    """Begin with what is known of the last MEANS_S, requests per second, NaN where nothing is; what waits for an
    outcome will not see it. Returns whether anything is known."""
    memory["noted"][:] = memory["taken"]
    memory["sampled_at"] = -math.inf
    known = [rate for rate in rates_rps if not math.isnan(rate)]
    if known:
        memory["means"][:] = [known[0] if math.isnan(rate) else rate for rate in rates_rps]
    return bool(known)


def prepare(memory: Any, quantiles: tuple[float, ...]) -> None:
    """Make a record of zeros one of nothing learned. quantiles: of the load, 0..1, MOST_QUANTILES at most."""
    memory["sampled_at"] = -math.inf
    memory["weights"][:] = PRIOR
    memory["size_weights"][:] = SIZE_PRIOR
    memory["typical"][:] = memory["lately"][:] = 1.0
    memory["asked"] = len(quantiles)
    memory["quantiles"][: len(quantiles)] = quantiles


def told(forecast: ForecastView) -> Floats:
    """A forecast as one array: quantiles in the first row, in the first column the middles of the steps that end at
    the horizons, seconds after it was issued, and rates in between."""
    table = [0.0, *forecast.quantiles]
    for end_s, rates_rps in zip(forecast.horizons_s, forecast.rates_rps, strict=True):
        table.append(end_s - forecast.step_s / 2)  # a step's rate is that of its middle
        table.extend(rates_rps)
    return np.array(table, dtype=np.float64).reshape(len(forecast.horizons_s) + 1, -1)


def foretell(told: Floats, horizon_s: float, quantile: float) -> float:
    """What a forecast says at a horizon and a quantile, linear between those given; beyond them the nearest holds."""
    row, above = place(told[1:, 0], horizon_s)
    column, right = place(told[0, 1:], quantile)
    near, next_column = told[row + 1], min(column + 2, told.shape[1] - 1)
    rate = near[column + 1] + right * (near[next_column] - near[column + 1])
    if above > 0.0:
        far = told[row + 2]
        rate += above * (far[column + 1] + right * (far[next_column] - far[column + 1]) - rate)
    return float(rate)


def place(points: Floats, x: float) -> tuple[int, float]:
    """The last of ascending points that is not above x, and how far on the way to the next x is: 0..1."""
    last = len(points) - 1
    if x <= points[0]:
        return 0, 0.0
    if x >= points[last]:
        return last, 0.0
    at = 0
    while points[at + 1] <= x:
        at += 1
    return at, (x - points[at]) / (points[at + 1] - points[at])


def advance(memory: Any, now: float, seconds: float, rate: float, outcome: float, least_rps: float) -> None:
    """Go on by `seconds` that brought `rate`: note the outcomes that have come, and learn from samples that have all
    of theirs. outcome: the rate of the last OUTCOME_S, NaN where it is not known. least_rps: see LEAST_RPS."""
    means = memory["means"]
    for i in range(len(MEANS_S)):
        means[i] = rate + math.exp(-seconds / MEANS_S[i]) * (means[i] - rate)
    noted = memory["noted"]
    for horizon in range(HORIZONS):
        while noted[horizon] < memory["taken"]:
            sample = memory["waiting"][noted[horizon] % MOST_WAITING]
            if sample["due"][horizon] > now:
                break
            sample["came"][horizon] = outcome
            noted[horizon] += 1
            if horizon == HORIZONS - 1:
                learn(memory, sample, least_rps)


def learn(memory: Any, sample: Any, least_rps: float) -> None:
    """Learn from a sample that has its outcomes; one that has not all of them teaches nothing."""
    came, said, level = sample["came"], sample["said"], sample["level"]
    if math.isnan(came[0] + came[1] + came[2]):
        return
    keep = 1.0 - 1.0 / MEMORY
    root = math.sqrt(max(level, least_rps))
    typical, lately, relative = memory["typical"], memory["lately"], np.zeros(HORIZONS)
    tame, targets = tamed(sample["inputs"], BOLDEST), np.zeros(HORIZONS)
    for horizon in range(HORIZONS):
        most = MOST_MISSED * max(typical[horizon], 1.0)
        missed = min(max((came[horizon] - said[horizon]) / root, -most), most)
        targets[horizon] = tame * ((said[horizon] - level) / root + missed)
    least_squares.learn(memory["matrix"], memory["sums"], tame * sample["inputs"], targets, keep)
    learned = memory["learned"]
    for horizon in range(HORIZONS):
        error = (came[horizon] - said[horizon]) / math.sqrt(max(said[horizon], level, least_rps))
        errors.remember(
            memory["ordered"][horizon], memory["in_turn"][horizon], learned, error / sample["size"][horizon]
        )
        large = abs(error)
        typical[horizon] += max(1.0 / MEMORY, 1.0 / (learned + 1)) * (large - typical[horizon])
        typical[horizon] = max(typical[horizon], LEAST_ERROR)
        lately[horizon] += max(1.0 / LATELY, 1.0 / (learned + 1)) * (large - lately[horizon])
        memory["largest"][horizon] = max(large, keep * memory["largest"][horizon])
        relative[horizon] = large / typical[horizon]
    tame = tamed(sample["sizes"], BOLDEST)
    least_squares.learn(
        memory["size_matrix"], memory["size_sums"], tame * sample["sizes"], tame * relative, keep
    )
    memory["learned"] = learned + 1
    if (learned + 1) % SOLVE_EVERY == 0:
        memory["weights"][:] = least_squares.solve(memory["matrix"], memory["sums"], PRIOR, STRENGTH)
        memory["size_weights"][:] = least_squares.solve(
            memory["size_matrix"], memory["size_sums"], SIZE_PRIOR, STRENGTH
        )


def tamed(x: Floats, most: float) -> float:
    """The factor by which a sample is taken less seriously that is longer than `most`."""
    length = 0.0
    for each in x:
        length += each * each
    return 1.0 if length <= most * most else most / math.sqrt(length)


def look(memory: Any, told: Floats, horizon_s: float, root: float, inputs: Floats, sizes: Floats) -> float:
    """Fill the inputs of the load to come and those of the size of an error; returns what is foretold.

    Relative to the level in units of its root, as noise is; the first is a constant share of the level.
    """
    means = memory["means"]
    level = means[_LEVEL]
    foretold = foretell(told, horizon_s, 0.5)
    inputs[0] = 0.1 * root
    at = 1
    for i in range(len(MEANS_S)):
        if i != _LEVEL:
            inputs[at] = (means[i] - level) / root
            at += 1
    inputs[at] = (foretold - level) / root
    unit = memory["typical"][HORIZONS - 1]
    sizes[0] = 1.0
    sizes[1] = memory["lately"][HORIZONS - 1] / unit
    for i in range(1, at):
        sizes[1 + i] = abs(inputs[i]) / unit
    sizes[1 + at] = max(0.0, foretell(told, horizon_s, 0.95) - foretold) / root / unit
    return foretold


def expect(
    memory: Any,
    told: Floats,
    now: float,
    age_s: float,
    tick_s: float,
    lead_s: float,
    at: float,
    least_rps: float,
) -> bool:
    """Say what is expected one tick from now, at half the way to the lead and at the lead; returns whether that was
    taken as a sample.

    at: which of the quantiles is asked for: 2.5 lies half way between what the third and the fourth ask for.
    """
    ahead_s, quantiles, high = memory["ahead_s"], memory["quantiles"], memory["all_rps"]
    ahead_s[0], ahead_s[1], ahead_s[2] = tick_s, (tick_s + lead_s) / 2, lead_s
    every_s = min(SAMPLE_EVERY_S, ahead_s[HORIZONS - 1] / 3)
    waits = memory["taken"] - memory["noted"][HORIZONS - 1]
    sampled = now - memory["sampled_at"] >= every_s - ahead_s[0] / 4 and waits < MOST_WAITING
    asked = memory["asked"]
    below = min(int(at), max(0, asked - 2))
    above = min(below + 1, asked - 1)
    level = memory["means"][_LEVEL]
    root = math.sqrt(max(level, least_rps))
    inputs, sizes, size = np.zeros(_INPUTS), np.zeros(_SIZES), np.zeros(HORIZONS)
    foretold = look(memory, told, age_s + ahead_s[HORIZONS - 1], root, inputs, sizes)
    lowest = highest = foretold
    for mean in memory["means"]:
        lowest, highest = min(lowest, mean), max(highest, mean)
    for horizon in range(HORIZONS):
        weights, weighed = memory["weights"][horizon], 0.0
        for i in range(_INPUTS):
            weighed += weights[i] * inputs[i]
        memory["rates_rps"][horizon] = min(max(level + root * weighed, lowest / WIDEST), highest * WIDEST)
        weights, relative = memory["size_weights"][horizon], 0.0
        for i in range(_SIZES):
            relative += weights[i] * sizes[i]
        size[horizon] = min(max(relative, LEAST_SIZE), MOST_SIZE) * memory["typical"][horizon]
    largest = 1.0 + (LARGEST - 1.0) * memory["learned"] / (memory["learned"] + MANY)
    for horizon in range(HORIZONS):
        median = foretell(told, age_s + ahead_s[horizon], 0.5)
        noise = math.sqrt(max(median, least_rps))
        rate = memory["rates_rps"][horizon]
        around = size[horizon] * (root if rate <= level else math.sqrt(max(rate, least_rps)))
        for k in range(0 if sampled else below, asked if sampled else above + 1):
            # What the forecast's own quantile adds to its median is the first guess of an error's.
            guess = (foretell(told, age_s + ahead_s[horizon], quantiles[k]) - median) / noise / size[horizon]
            margin = errors.quantile(memory["ordered"][horizon], memory["learned"], quantiles[k], guess)
            # A jump that was large for a quiet time must not become a giant of busy ones.
            if memory["learned"] > 0:
                margin = min(margin, max(guess, largest * memory["largest"][horizon] / size[horizon]))
            high[k, horizon] = max(0.0, rate + margin * around)
        memory["high_rps"][horizon] = high[below, horizon] + (at - below) * (
            high[above, horizon] - high[below, horizon]
        )
    if not sampled:
        return False
    sample = memory["waiting"][memory["taken"] % MOST_WAITING]
    sample["level"] = level
    sample["said"][:] = memory["rates_rps"]
    sample["due"][:] = now + ahead_s + OUTCOME_S / 2
    sample["came"][:] = math.nan
    sample["size"][:] = size
    sample["inputs"][:] = inputs
    sample["sizes"][:] = sizes
    memory["taken"] += 1
    memory["sampled_at"] = now
    return True


KERNELS = ("place", "foretell", "look", "tamed", "learn", "advance", "expect")
"""What may be compiled, each after what it calls."""
