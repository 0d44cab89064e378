"""The policies that can be compared, each with its knob, and a user's own from a file."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from lab.bad_input import BadInput
from services.autoscaler.policies import (
    Hpa,
    Keda,
    Kpa,
    Persistence,
    Policy,
    PolicyOptions,
    Predictive,
    Trend,
)
from services.autoscaler.policies.foresight import Foresight
from services.autoscaler.policies.newsvendor import quantile_of

TARGETS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
HEADROOMS = (0.0, 0.02, 0.04, 0.06, 0.1, 0.15, 0.2, 0.3, 0.5, 0.8, 1.2)
PRICES = (1.0, 3.0, 9.0, 19.0, 49.0, 80.0, 199.0)

Told = Literal["nothing", "forecast", "intensity", "load"]
"""What a policy is told of the future: nothing, the live forecaster's answers, the intensity without noise, or all."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A policy by name. knob: what its one setting is called; default: its value; sweep: the values of a front.

    make: a new policy of a value, and of what all policies are told of tick, forecasts and SLO. unset: what rows say
    where the value is NaN: one that is yet to be chosen, or that the policy finds for itself.
    """

    name: str
    knob: str
    default: float
    sweep: tuple[float, ...]
    told: Told
    make: Callable[[float, PolicyOptions], Policy]
    unset: str = ""

    def setting(self, value: float) -> str:
        """`knob=value`, as rows say it; empty for a policy without a knob."""
        return self.unset if math.isnan(value) else f"{self.knob}={value:g}" if self.knob else ""


def _predictive(price: float, told: PolicyOptions) -> Policy:
    return Predictive(
        tick_s=told.tick_s,
        price=None if math.isnan(price) else price,
        slo_s=told.slo_s,
        forecast_max_age_s=told.forecast_max_age_s,
    )


_ALL = (
    Contender("hpa", "target", 0.7, TARGETS, "nothing", lambda value, told: Hpa(target=value)),
    # Its target is chosen on the part of the trace before the one that is judged: lab.experiment.
    Contender("hpa-tuned", "target", math.nan, (), "nothing", lambda value, told: Hpa(target=value)),
    Contender("kpa", "target", 0.7, TARGETS, "nothing", lambda value, told: Kpa(target=value)),
    Contender("keda", "target", 0.7, TARGETS, "nothing", lambda value, told: Keda(target=value)),
    Contender(
        "persistence",
        "headroom",
        0.2,
        HEADROOMS,
        "nothing",
        lambda value, told: Persistence(headroom=value),
    ),
    Contender("trend", "headroom", 0.2, HEADROOMS, "nothing", lambda value, told: Trend(headroom=value)),
    Contender("predictive", "price", math.nan, PRICES, "forecast", _predictive, "price=auto"),
    Contender(
        "informed",
        "price",
        9.0,
        PRICES,
        "intensity",
        lambda value, told: Foresight("informed", tick_s=told.tick_s, quantile=quantile_of(value)),
    ),
    Contender(
        "oracle", "", math.nan, (), "load", lambda value, told: Foresight("oracle", tick_s=told.tick_s)
    ),
)
CONTENDERS = {contender.name: contender for contender in _ALL}


@lru_cache(maxsize=64)
def contender(spec: str) -> Contender:
    """The contender of a name, or of `./mine.py:MyPolicy`: a file and a class.

    The class is made without arguments, or with its knob where it says that it has one:
    `knob = ("target", 0.7, (0.5, 0.6, 0.7, 0.8))` is made as `MyPolicy(target=0.7)`.

    Raises ValueError with the choices for an unknown name, BadInput for a file that is not there or whose class has a
    knob that is none. A file that breaks when it is run breaks when the policy is made.
    """
    if spec in CONTENDERS:
        return CONTENDERS[spec]
    path, separator, name = spec.rpartition(":")
    if not separator or not path.endswith(".py"):
        raise ValueError(
            f"policy '{spec}' is not known; choose of {', '.join(CONTENDERS)}, or give a file and its class: "
            "./mine.py:MyPolicy"
        )
    file = Path(path)
    if not file.is_file():
        raise BadInput(file, "no such file", "give a policy as ./mine.py:MyPolicy")
    if not name.isidentifier():
        raise BadInput(file, "no class is named", "give a policy as ./mine.py:MyPolicy", value=name)
    knob, default, sweep = _knob(file, name)

    def make(value: float, _: PolicyOptions) -> Policy:
        made: Policy = _class(file, name)(**({knob: value} if knob else {}))
        return made

    return Contender(spec, knob, default, sweep, "forecast", make)


def _knob(file: Path, name: str) -> tuple[str, float, tuple[float, ...]]:
    """Name, default and sweep of a user's knob; an empty name where it has none or the file breaks."""
    try:
        given = getattr(_class(file, name), "knob", None)
    except (Exception, SystemExit):
        return "", math.nan, ()
    if given is None:
        return "", math.nan, ()
    try:
        knob, default, values = given
        sweep = tuple(float(value) for value in values)
        if not (isinstance(knob, str) and knob.isidentifier() and all(map(math.isfinite, (default, *sweep)))):
            raise ValueError(given)
    except (TypeError, ValueError):
        remedy = 'write it as knob = ("target", 0.7, (0.5, 0.6, 0.7, 0.8))'
        raise BadInput(file, f"the knob of {name} is none", remedy, value=repr(given)) from None
    return knob, float(default), sweep


def _class(file: Path, name: str) -> Callable[..., Policy]:
    """Run the user's file as a module of its own; the class of that name in it."""
    module_name = f"_lab_policy_{file.stem}"
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} can't be loaded as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses of the file look themselves up here
    spec.loader.exec_module(module)
    if not hasattr(module, name):
        raise AttributeError(f"{file} has no class {name}")
    found: Callable[..., Policy] = getattr(module, name)
    return found
