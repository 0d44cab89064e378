"""What is compared: traces, policies, start delays, seeds; and one run of it."""

from __future__ import annotations

import math
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from lab.contenders import CONTENDERS, TARGETS, Contender, contender
from lab.fleet import Starts
from lab.foresight import Blind, Foresight, Issued, Told, issue, known
from lab.load import Load, busiest, load, part, scale_for
from lab.measures import FIGURES, measure, needed
from lab.server import Server
from lab.simulator import Bounds, Hold, Reached, Run, simulate
from lab.trace import Trace, read_trace
from services.autoscaler.policies import Policy, PolicyOptions
from services.predictor.served import served

MEAN_REPLICAS = 20.0
"""Replicas that a trace needs on average when no scale is given: enough that rounding up isn't the whole result."""

TUNED_ON_S = 2 * 86_400
"""Seconds before the judged part on which `hpa-tuned` chooses its target, at most."""

TUNED_SLO = 0.01
"""Share of requests beyond the SLO that `hpa-tuned` accepts where it chooses."""

_BEGIN_UTILISATION = 0.7
_SERVER, _STARTS = Server(), Starts()
_REACH_FACTOR, _REACH_MORE_S = 2.0, 30.0  # a start may take some times its median


@dataclass(frozen=True, slots=True)
class Experiment:
    """All that was asked for; the same experiment gives the same results bit for bit.

    traces: paths. policies: names or `file.py:Class`. last: share (0..1] of each trace that is judged; what comes
    before is history and for tuning. until: share (0..1] at which the judged part ends: 0.75 leaves the last quarter
    untouched. days: where that is longer, its busiest so many days are. scale: requests of a
    run per request of the trace; None: so that MEAN_REPLICAS are needed on average. most: replicas at most;
    None: twice what the peak needs. step_s: the forecaster's step. forecast_every_s: seconds between two forecasts.
    """

    traces: tuple[str, ...]
    policies: tuple[str, ...]
    start_delays_s: tuple[float, ...]
    seeds: int = 1
    sweep: bool = False
    last: float = 0.25
    until: float = 1.0
    days: float | None = None
    server: Server = _SERVER
    starts: Starts = _STARTS
    scale: float | None = None
    least: int = 1
    most: int | None = None
    tick_s: int = 2
    step_s: int = 60
    forecast_every_s: int = 10

    def __post_init__(self) -> None:
        """Raises ValueError naming what makes no sense."""
        if self.scale is not None and not (math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"--scale {self.scale:g}: give a factor above zero, or leave it out")
        if self.last > self.until:
            raise ValueError(f"--last {self.last:g} of a trace is more than there is --until {self.until:g}")

    @property
    def options(self) -> PolicyOptions:
        """What every policy is told."""
        return PolicyOptions(
            tick_s=self.tick_s,
            slo_s=self.server.slo_s,
            forecast_max_age_s=self.forecast_every_s + 3 * self.tick_s,
        )

    def settings(self) -> Iterator[Setting]:
        """Every run that is asked for, those of one load next to each other."""
        for trace in self.traces:
            for seed in range(self.seeds):
                for start_delay_s in self.start_delays_s:
                    for policy in self.policies:
                        for value, default in self._values(contender(policy)):
                            yield Setting(trace, policy, value, default, start_delay_s, seed)

    def _values(self, of: Contender) -> Iterator[tuple[float, bool]]:
        yield of.default, True
        if self.sweep:
            yield from ((value, False) for value in of.sweep if value != of.default)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Experiment:
        """The experiment that `as_dict` gave; raises TypeError, KeyError or ValueError for anything else."""
        fields = dict(data)
        for name in ("traces", "policies", "start_delays_s"):
            fields[name] = tuple(fields[name])
        return cls(**fields | {"server": Server(**data["server"]), "starts": Starts(**data["starts"])})


@dataclass(frozen=True, slots=True)
class Setting:
    """One run: value is that of the policy's knob (NaN without one), default whether it is the one it comes with."""

    trace: str
    policy: str
    value: float
    default: bool
    start_delay_s: float
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What all policies of one load have in common."""

    load: Load
    bounds: Bounds
    begin_with: int


def _silent(seconds: int) -> None:
    """Says nobody how far a run is."""


def run_row(
    experiment: Experiment, setting: Setting, forecasts: Issued | None, reached: Reached = _silent
) -> tuple[dict[str, Any], Run | None]:
    """The row of one run, and the run. What the policy raises is the row's `error`, a traceback, and its figures are
    None, and there is no run.
    """
    row: dict[str, Any] = {
        "trace": Path(setting.trace).stem,
        "policy": setting.policy,
        "setting": contender(setting.policy).setting(setting.value),
        "default": setting.default,
        "start_delay_s": setting.start_delay_s,
        "seed": setting.seed,
    }
    at = scene(experiment, setting.trace, setting.seed)
    try:
        if setting.policy == "hpa-tuned":
            setting = replace(setting, value=tuned_target(experiment, setting.trace, setting.start_delay_s))
            row["setting"] = contender("hpa-tuned").setting(setting.value)
        run = run_once(experiment, setting, forecasts, reached=reached)
    except (Exception, SystemExit):
        return row | dict.fromkeys(FIGURES) | {"error": traceback.format_exc()}, None
    return row | measure(run, at.load, experiment.server, at.bounds), run


def run_once(
    experiment: Experiment,
    setting: Setting,
    forecasts: Issued | None,
    *,
    hold: Hold | None = None,
    witness: int | None = None,
    reached: Reached = _silent,
) -> Run:
    """One run as it was; with `hold`, `witness` and `reached` as `simulate` takes them."""
    at = scene(experiment, setting.trace, setting.seed)
    of = contender(setting.policy)
    starts = replace(experiment.starts, delay_s=setting.start_delay_s)
    policy = of.make(setting.value, experiment.options)
    return _simulated(experiment, policy, of, at, starts, forecasts, hold, witness, reached)


def _simulated(
    experiment: Experiment,
    policy: Policy,
    of: Contender,
    at: Scene,
    starts: Starts,
    forecasts: Issued | None,
    hold: Hold | None = None,
    witness: int | None = None,
    reached: Reached = _silent,
) -> Run:
    return simulate(
        policy,
        at.load,
        experiment.server,
        starts,
        at.bounds,
        _foresight(of, at.load, starts, forecasts),
        tick_s=experiment.tick_s,
        begin_with=at.begin_with,
        learns=of.told not in ("intensity", "load"),
        hold=hold,
        witness=witness,
        reached=reached,
    )


def _foresight(of: Contender, load: Load, starts: Starts, forecasts: Issued | None) -> Foresight:
    if of.told == "nothing" or (of.told == "forecast" and forecasts is None):
        return Blind()
    if of.told == "forecast":
        assert forecasts is not None  # noqa: S101  # said above
        return Told(forecasts, load.began_at)
    reach_s = _REACH_FACTOR * starts.delay_s + _REACH_MORE_S
    return Told(known(load, noise=of.told == "load", reach_s=reach_s), load.began_at)


def issue_forecasts(experiment: Experiment, trace: str, seed: int, reached: Reached = _silent) -> Issued:
    """What the live service's forecaster says of one load; the same for every policy and start delay."""
    return issue(
        served(),
        scene(experiment, trace, seed).load,
        step_s=experiment.step_s,
        every_s=experiment.forecast_every_s,
        reached=reached,
    )


@lru_cache(maxsize=2)
def read(path: str) -> Trace:
    """The trace of a path, kept; raises BadInput."""
    return read_trace(path)


@lru_cache(maxsize=2)
def scene(experiment: Experiment, path: str, seed: int) -> Scene:
    """The judged part of a trace under a seed; raises BadInput for the file, ValueError for what can't be judged."""
    trace = read(path)
    return _scene(experiment, trace, judged(experiment, trace), seed)


def _scene(experiment: Experiment, trace: Trace, bins: tuple[int, int], seed: int) -> Scene:
    drawn = load(trace, bins, scale_of(experiment, trace), seed)
    most = experiment.most
    if most is None:
        peak = float(drawn.rates_rps.max()) / experiment.server.planned_rps
        most = max(experiment.least, 1, math.ceil(2 * peak))
    bounds = Bounds(experiment.least, most)
    first = needed(drawn, experiment.server, bounds)[0]
    return Scene(drawn, bounds, math.ceil(first / _BEGIN_UTILISATION))


def judged(experiment: Experiment, trace: Trace) -> tuple[int, int]:
    """The bins [a, b) of a trace that are judged; raises ValueError where none is left."""
    bins = part(trace, experiment.until - experiment.last, experiment.until)
    return bins if experiment.days is None else busiest(trace, bins, experiment.days * 86_400)


def seconds_of(experiment: Experiment, path: str) -> int:
    """Seconds of a trace that are judged in each run; raises as `scene` does."""
    trace = read(path)
    first, stop = judged(experiment, trace)
    return round((stop - first) * trace.bin_s)


def scale_of(experiment: Experiment, trace: Trace) -> float:
    """Requests of a run per request of the trace; raises ValueError for a judged part without requests."""
    if experiment.scale is not None:
        return experiment.scale
    return scale_for(trace, judged(experiment, trace), MEAN_REPLICAS * experiment.server.planned_rps)


@lru_cache(maxsize=64)
def tuned_target(experiment: Experiment, path: str, start_delay_s: float) -> float:
    """The HPA target that wastes least on the part before the judged one, at most TUNED_SLO beyond the SLO there.

    Where no target keeps that, the one that comes nearest. Raises ValueError when nothing lies before.
    """
    trace = read(path)
    first = judged(experiment, trace)[0]
    begin = max(0, first - round(TUNED_ON_S / trace.bin_s))
    if first - begin < 1:
        raise ValueError(
            "hpa-tuned is tuned on what comes before the judged part; judge less than all (--last 0.25)"
        )
    at = _scene(experiment, trace, (begin, first), 0)
    starts = replace(experiment.starts, delay_s=start_delay_s)
    of = CONTENDERS["hpa"]
    figures: dict[float, dict[str, Any]] = {}
    for target in np.round(np.arange(TARGETS[0], TARGETS[-1] + 0.01, 0.05), 2).tolist():
        policy = of.make(target, experiment.options)
        run = _simulated(experiment, policy, of, at, starts, None)
        figures[target] = measure(run, at.load, experiment.server, at.bounds)
    kept = [target for target, found in figures.items() if found["slo_violation"] <= TUNED_SLO]
    if kept:
        return float(min(kept, key=lambda target: figures[target]["waste"]))
    return float(min(figures, key=lambda target: figures[target]["slo_violation"]))
