"""What the article that this study set out from claims, beside our rows for the same methods.

A claim without a matching row is not measured: nothing is derived from rows of other methods.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from models.report.study import Step


@dataclass(frozen=True)
class Claim:
    """What the article says of a method. matches: whether a step of the study is that method's."""

    what: str
    says: str
    matches: Callable[[Step], bool]


@dataclass(frozen=True)
class Compared:
    """A claim and our steps for it, none where it was not measured."""

    claim: Claim
    ours: Sequence[Step]


def alone(pattern: str, without: str = "$^") -> Callable[[Step], bool]:
    """Steps of one method, on nothing but the unchanged model, whose method or setting has the pattern."""

    def matches(step: Step) -> bool:
        said = f"{step.row.method} {step.row.setting}".lower()
        found = re.search(pattern, said) and not re.search(without, said)
        return bool(found) and not step.row.stacked and step.base is not None

    return matches


def stacked(*patterns: str) -> Callable[[Step], bool]:
    """Steps that hold a method of each pattern, in whatever order, on an unchanged model."""

    def matches(step: Step) -> bool:
        methods = [name.lower() for name in (*step.row.stacked, step.row.method)]
        found = all(any(re.search(pattern, name) for name in methods) for pattern in patterns)
        return found and step.base is not None

    return matches


def teaches(step: Step) -> bool:
    """The teacher of a distillation, as measured beside its students."""
    return step.row.method.lower() == "teacher"


QAT = "qat|quanti[sz]ation-aware"
CLAIMS = (
    Claim("Distillation: the teacher", "92.1 %", teaches),
    Claim(
        "Distillation: soft labels against hard ones",
        "student 86.5 %, with the teacher 89.7 %: +3.2 points",
        alone("distil"),
    ),
    Claim("Quantisation-aware training, INT8", "-0.9 points; 120 to 73 ms: time x 0.61", alone(QAT)),
    Claim("Static quantisation after training, INT8", "-3.2 points", alone("static", without=QAT)),
    Claim(
        "Asymmetric INT8",
        "-1.2 points; size x 0.27 (-73 %); twice as fast: time x 0.50",
        alone("asymmetric", without=QAT),
    ),
    Claim(
        "Sparse attention, weight sharing and fusion together",
        "parameters x 0.60 (-40 %)",
        stacked("spars", "shar", "fus"),
    ),
    Claim(
        "Light model (all of it stacked) against the original",
        "95.7 against 96.2 %: -0.5 points; 105 of 420 MB: size x 0.25; 63 of 148 ms: time x 0.43",
        stacked("prun", "distil", "int8|int4|4-bit|quant|qat"),
    ),
)


def compare(steps: Sequence[Step]) -> list[Compared]:
    """Every claim beside the steps of the study that measured it."""
    return [Compared(claim, [step for step in steps if claim.matches(step)]) for claim in CLAIMS]
