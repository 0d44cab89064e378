"""Policies by name, their knobs, and a user's own from a file."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from lab.bad_input import BadInput
from lab.contenders import CONTENDERS, contender
from lab.experiment import Experiment
from lab.server import Server
from services.autoscaler.policies import PolicyOptions


@pytest.mark.parametrize("name", CONTENDERS)
def test_each_contender_is_made_at_its_default_and_over_its_sweep(name: str) -> None:
    of = contender(name)
    default = 0.7 if name == "hpa-tuned" else of.default
    assert of.make(default, PolicyOptions()).name in {name, "hpa"}
    for value in of.sweep:
        assert of.make(value, PolicyOptions()) is not of.make(value, PolicyOptions())
        assert of.setting(value) == f"{of.knob}={value:g}"
    found = math.isnan(of.default)  # by the policy itself
    assert not of.sweep or found or of.sweep[0] <= of.default <= of.sweep[-1]
    assert not found or of.setting(of.default) == of.unset


def test_an_unknown_name_is_answered_with_the_choices() -> None:
    with pytest.raises(ValueError, match="hpa, hpa-tuned, kpa") as refused:
        contender("magic")
    assert "./mine.py:MyPolicy" in str(refused.value)
    with pytest.raises(ValueError, match="not known"):
        contender("mine.txt:Mine")


def test_a_file_without_a_class_is_refused_before_anything_runs(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    with pytest.raises(BadInput, match="no such file"):
        contender(f"{file}:Mine")
    file.write_text("")
    with pytest.raises(BadInput, match="no class is named"):
        contender(f"{file}:my class")


def test_the_settings_of_an_experiment_keep_runs_of_one_load_together() -> None:
    asked = Experiment(("a.csv", "b.csv"), ("hpa", "oracle"), (15.0, 60.0), seeds=2, sweep=True)
    settings = list(asked.settings())
    assert len(settings) == 2 * 2 * 2 * (6 + 1)
    loads = [(one.trace, one.seed) for one in settings]
    assert len({*loads}) == 4
    assert loads == sorted(loads)
    assert sum(one.default for one in settings) == 2 * 2 * 2 * 2
    assert Experiment.from_dict(asked.as_dict()) == asked


def test_what_an_answer_may_take_is_told_to_the_policies() -> None:
    assert Experiment(("x.csv",), ("predictive",), (30.0,), server=Server(slo_s=0.4)).options.slo_s == 0.4
