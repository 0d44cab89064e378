"""What stands for an outcome that is no answer, for routes whose protocol has errors of a call."""

from __future__ import annotations

from services.common import problems
from services.common.problems import Problem
from services.contracts.messages import InferOutcome


def problem_of(outcome: InferOutcome) -> Problem:
    """The problem that stands for an outcome other than 200."""
    if outcome.status == 503:
        return problems.overloaded("the queue before the model is full", outcome.retry_after_s or 1.0)
    if outcome.status == 504:
        return problems.deadline_exceeded("the time for an answer ran out in the queue")
    return Problem(400, "refused-by-model", "Refused by the model", outcome.detail or str(outcome.reason))
