"""One policy against the others at equal misses: what it wastes where they miss as much as it does.

A knob is continuous, so between two settings of a policy there is a third: its front runs straight between them, over
the logarithm of the miss. The envelope of several policies is the least of their fronts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lab.summary import Summary, front

RIVALS = ("hpa", "kpa", "keda", "persistence")
MISSES = ("tau_u", "slo_violation")
AT_ONCE = ("waste", "tau_u", "p95_ms", "scale_out_delay_all_s")
"""Figures in which a default should beat HPA's at once."""

LEAST_MISS = 1e-5
"""Misses below this are none: one in a hundred thousand."""


LEAST_GAP = 0.05
"""Waste by which `informed` must be better than HPA on average for a share of that to mean anything."""


@dataclass(frozen=True, slots=True)
class AtEqualMiss:
    """A policy against the rivals' envelope on one trace with one start delay.

    ratio: its waste over the envelope's at the same miss, geometric mean over those of its settings that none of its
    own beats in both; worst: the largest of them. Settings that miss less than any setting of any rival are left out
    where there are others: there is no equal miss. default: that of its default setting, None where it was not run.
    gap_closed: share of the way from HPA's front to that of `informed` at the same misses, None where `informed` is
    hardly better or not run.
    """

    policy: str
    trace: str
    start_delay_s: float
    miss: str
    ratio: float
    worst: float
    default: float | None
    gap_closed: float | None


@dataclass(frozen=True, slots=True)
class AtDefault:
    """Defaults of HPA and of a policy beside each other: (HPA's, the policy's) for each figure.

    beaten: those of AT_ONCE in which the policy is not worse. figures: None where there was none.
    """

    policy: str
    trace: str
    start_delay_s: float
    figures: dict[str, tuple[float | None, float | None]]
    beaten: tuple[str, ...]


def at_equal_miss(found: Sequence[Summary], policy: str = "predictive") -> list[AtEqualMiss]:
    """For each trace, start delay and kind of miss; empty where the policy or every rival is missing."""
    compared: list[AtEqualMiss] = []
    for trace, delay in _places(found):
        here = [one for one in found if (one.trace, one.start_delay_s) == (trace, delay)]
        for miss in MISSES:
            own = _line(here, policy, miss)
            rivals = [line for rival in RIVALS if (line := _line(here, rival, miss))]
            if not own or not rivals:
                continue
            reach = min(line[0][0] for line in rivals)
            own = [point for point in own if point[0] >= reach] or own[-1:]
            ratios = [waste / max(envelope(rivals, at), 1e-9) for at, waste in own]
            default = next((_point(one, miss) for one in here if one.policy == policy and one.default), None)
            compared.append(
                AtEqualMiss(
                    policy,
                    trace,
                    delay,
                    miss,
                    ratio=float(np.exp(np.mean(np.log(np.maximum(ratios, 1e-9))))),
                    worst=max(ratios),
                    default=None if default is None else default[1] / max(envelope(rivals, default[0]), 1e-9),
                    gap_closed=_gap_closed(here, miss, own),
                )
            )
    return compared


def mean_ratios(compared: Sequence[AtEqualMiss]) -> dict[str, float]:
    """The geometric mean of the ratios of each policy."""
    return {
        policy: float(np.exp(np.mean([np.log(one.ratio) for one in compared if one.policy == policy])))
        for policy in dict.fromkeys(one.policy for one in compared)
    }


def subjects(found: Sequence[Summary]) -> list[str]:
    """Whom a report compares with the rivals: `predictive` and the user's own, as far as they were run."""
    policies = dict.fromkeys(one.policy for one in found)
    return [
        policy for policy in policies if policy == "predictive" or policy.rpartition(":")[0].endswith(".py")
    ]


def at_default(found: Sequence[Summary], policy: str = "predictive") -> list[AtDefault]:
    """For each trace and start delay where both HPA and the policy ran at their defaults."""
    compared: list[AtDefault] = []
    for trace, delay in _places(found):
        defaults = {
            one.policy: one
            for one in found
            if one.default and (one.trace, one.start_delay_s) == (trace, delay) and not one.failed
        }
        if "hpa" not in defaults or policy not in defaults:
            continue
        names = (*AT_ONCE, "scale_out_delay_late_s")
        figures = {name: (_mean(defaults["hpa"], name), _mean(defaults[policy], name)) for name in names}
        beaten = tuple(
            name
            for name in AT_ONCE
            if (theirs := figures[name][0]) is not None
            and (ours := figures[name][1]) is not None
            and ours <= theirs
        )
        compared.append(AtDefault(policy, trace, delay, figures, beaten))
    return compared


def envelope(lines: Sequence[Sequence[tuple[float, float]]], miss: float) -> float:
    """The least waste of the lines at a miss; each is a front, [(miss, waste), ...] with misses ascending.

    Beyond its ends a line holds its last value: a rival that cannot miss as little is credited with what it wastes at
    its most careful setting, and one that never misses as much with what it wastes at its boldest.
    """
    at = np.log(max(miss, LEAST_MISS))
    return min(float(np.interp(at, [np.log(x) for x, _ in line], [y for _, y in line])) for line in lines)


def _places(found: Sequence[Summary]) -> list[tuple[str, float]]:
    return list(dict.fromkeys((one.trace, one.start_delay_s) for one in found))


def _point(one: Summary, miss: str) -> tuple[float, float] | None:
    x, y = one.figures[miss], one.figures["waste"]
    return None if x is None or y is None else (max(x.mean, LEAST_MISS), y.mean)


def _line(here: Sequence[Summary], policy: str, miss: str) -> list[tuple[float, float]]:
    return front(point for one in here if one.policy == policy and (point := _point(one, miss)))


def _gap_closed(here: Sequence[Summary], miss: str, own: Sequence[tuple[float, float]]) -> float | None:
    hpa, informed = _line(here, "hpa", miss), _line(here, "informed", miss)
    if not hpa or not informed:
        return None
    gap = sum(envelope([hpa], at) - envelope([informed], at) for at, _ in own)
    won = sum(envelope([hpa], at) - waste for at, waste in own)
    return won / gap if gap > LEAST_GAP * len(own) else None


def _mean(one: Summary, name: str) -> float | None:
    found = one.figures[name]
    return None if found is None else found.mean
