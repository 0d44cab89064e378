"""Why a policy scaled at a moment of a simulated run, and what would have happened had it not.

A run is the same bit for bit each time, so it is run again: once as it was, once with the policy's step not taken.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from lab.bad_input import BadInput, read_text
from lab.contenders import contender
from lab.experiment import Experiment, Setting, run_once, scene, tuned_target
from lab.load import Load
from lab.queueing import ANSWERED, LATE, LATENCY, SHED
from lab.runner import EXPERIMENT, read_forecasts
from lab.simulator import Hold, Run
from services.autoscaler.decision import Decision
from services.autoscaler.observation import Observation

AFTER_S = 600
"""Seconds that are compared after the moment, and in which the other run keeps its replicas as they were."""

_NEAR_S = 600


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What became of the requests of AFTER_S seconds: counts, mean latency of those answered, mean ready replicas."""

    answered: int
    shed: int
    late: int
    mean_ms: float | None
    ready: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision with what the policy saw, what came of it, and what would have come of holding still.

    at: epoch seconds of the decision. asked: those that were asked about: the nearest step within ten minutes is shown.
    """

    asked: float
    at: float
    trace: str
    setting: str
    observation: Observation
    decision: Decision
    taken: Aftermath
    held: Aftermath


def read_experiment(folder: Path) -> Experiment:
    """The experiment of a folder; raises BadInput when there is none."""
    path = folder / EXPERIMENT
    text = read_text(path, "the folder of `foremesh lab run`")
    try:
        return Experiment.from_dict(json.loads(text))
    except (ValueError, TypeError, KeyError) as error:
        raise BadInput(path, f"not an experiment ({error})", "run `foremesh lab run` again") from None


def explain(
    folder: Path, at: str, *, trace: str | None, policy: str, start_delay_s: float | None, seed: int
) -> Explanation:
    """Explain the step of a policy at a time of day of the first judged day, or at an ISO-8601 time.

    trace, start_delay_s: the experiment's first when None. Raises ValueError for what the experiment has not, BadInput
    for files.
    """
    experiment = read_experiment(folder)
    setting = _chosen(experiment, trace, policy, start_delay_s, seed)
    load = scene(experiment, setting.trace, seed).load
    asked = second_of(load, at)
    told = contender(setting.policy).told == "forecast"
    forecasts = read_forecasts(str(folder), setting.trace, seed) if told else None
    if setting.policy == "hpa-tuned":
        setting = replace(setting, value=tuned_target(experiment, setting.trace, setting.start_delay_s))
    run = run_once(experiment, setting, forecasts)
    second = _nearest_step(run, asked, experiment.tick_s)
    hold = Hold(second, second + AFTER_S)
    witnessed = run_once(experiment, setting, forecasts, witness=second).witnessed
    assert witnessed is not None  # noqa: S101  # `second` is a tick of the run
    other = run_once(experiment, setting, forecasts, hold=hold)
    return Explanation(
        asked=load.began_at + asked,
        at=load.began_at + second,
        trace=load.name,
        setting=contender(setting.policy).setting(setting.value),
        observation=witnessed[0],
        decision=witnessed[1],
        taken=_aftermath(run, second),
        held=_aftermath(other, second),
    )


def _chosen(
    experiment: Experiment, trace: str | None, policy: str, delay_s: float | None, seed: int
) -> Setting:
    stems = {Path(path).stem: path for path in experiment.traces}
    path = experiment.traces[0] if trace is None else stems.get(Path(trace).stem)
    if path is None:
        raise ValueError(f"trace '{trace}' is not in this experiment ({', '.join(stems)})")
    delay_s = experiment.start_delays_s[0] if delay_s is None else delay_s
    for setting in experiment.settings():
        if (setting.trace, setting.policy, setting.start_delay_s, setting.seed, setting.default) == (
            path, policy, delay_s, seed, True,
        ):  # fmt: skip
            return setting
    delays = ", ".join(f"{delay:g}" for delay in experiment.start_delays_s)
    raise ValueError(
        f"no run of {policy} with a start delay of {delay_s:g} s and seed {seed} in this experiment "
        f"(policies {', '.join(experiment.policies)}; start delays {delays}; seeds 0..{experiment.seeds - 1})"
    )


def second_of(load: Load, at: str) -> int:
    """The second of a run that `at` names: HH:MM or HH:MM:SS (UTC) of the first judged day that has it, or ISO-8601.

    Raises ValueError, naming what there is, for anything else and for times outside of the run.
    """
    end = load.began_at + len(load.arrivals)
    span = f"{_iso(load.began_at)} .. {_iso(end)}"
    try:
        if "T" in at or "-" in at:
            moment = datetime.fromisoformat(at)
            wanted = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        else:
            parts = [int(part) for part in at.split(":")]
            if len(parts) not in (2, 3) or not all(
                0 <= n < top for n, top in zip(parts, (24, 60, 60), strict=False)
            ):
                raise ValueError(at)
            of_day = sum(n * unit for n, unit in zip(parts, (3600, 60, 1), strict=False))
            wanted = math.floor(load.began_at / 86_400) * 86_400 + of_day
            wanted += 86_400 if wanted < load.began_at else 0
    except ValueError:
        raise ValueError(
            f"--at '{at}' is no time; write 12:34, 12:34:56 or 2026-01-31T12:34 within {span}"
        ) from None
    if not load.began_at <= wanted < end:
        raise ValueError(f"--at {at} is outside of what was judged: {span}")
    return int(wanted - load.began_at)


def _iso(t: float) -> str:
    return datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _nearest_step(run: Run, asked: int, tick_s: int) -> int:
    """The tick nearest to `asked` at which the count changed, within ten minutes; else the tick of `asked`."""
    wanted = run.wanted
    steps = [
        second
        for second in range(max(1, asked - _NEAR_S), min(len(wanted), asked + _NEAR_S))
        if wanted[second] != wanted[second - 1]
    ]
    nearest = min(steps, key=lambda second: abs(second - asked), default=asked)
    return nearest // tick_s * tick_s


def _aftermath(run: Run, second: int) -> Aftermath:
    part = run.series[second : second + AFTER_S]
    answered = int(part[:, ANSWERED].sum())
    return Aftermath(
        answered=answered,
        shed=int(part[:, SHED].sum()),
        late=int(part[:, LATE].sum()),
        mean_ms=round(float(part[:, LATENCY].sum(dtype=float)) / answered * 1e3, 1) if answered else None,
        ready=round(float(run.ready[second : second + AFTER_S].mean()), 2),
    )
