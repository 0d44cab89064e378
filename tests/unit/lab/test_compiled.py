"""Compiled for the lab and plain as live, the policies' arithmetic says the same."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from pathlib import Path

import pytest

from services.autoscaler.policies import Predictive
from tests.unit.autoscaler.conftest import flat, seen


def decisions() -> list[tuple[int, float | None, str]]:
    """What the policy says, tick for tick, of a load with chance, a rise and a jump."""
    dice, policy, wanted, said = random.Random(4), Predictive(), 5, []
    rate = [0] * 4000
    for at in range(len(rate)):
        level = 80 + 40 * math.sin(at / 300) + (120 if 2500 < at < 2700 else 0)
        rate[at] = max(0, round(dice.gauss(level, math.sqrt(level))))
    for at in range(120, len(rate), 2):
        observation = seen(
            at, rate[at - 120 : at], wanted=wanted, ready=wanted, capacity_rps=10.0, start_delay_s=20.0,
            max_replicas=60, forecast=flat(at - at % 10, rate[at - 1]),
        )  # fmt: skip
        decision = policy.decide(observation)
        wanted = decision.wanted
        said.append((wanted, decision.forecast_rps, decision.reasons[-1].text))
    return said


def test_compiled_and_plain_say_the_same() -> None:
    code = "import json; from tests.unit.lab.test_compiled import decisions; print(json.dumps(decisions()))"
    plain = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    import lab.compiled  # noqa: F401, PLC0415 (compiles them for this process)
    from services.autoscaler.policies import outlook  # noqa: PLC0415

    assert hasattr(outlook.expect, "py_func")
    compiled, expected = decisions(), json.loads(plain.stdout)
    assert len(compiled) == len(expected)
    for (wanted, rate, text), (wanted_plain, rate_plain, text_plain) in zip(compiled, expected, strict=True):
        assert (wanted, text) == (wanted_plain, text_plain)
        assert rate == (None if rate_plain is None else pytest.approx(rate_plain, rel=1e-9))
