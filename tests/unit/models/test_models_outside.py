"""The gate for sentences that belong to no intent: chosen on validation, within the loss that it may cost."""

from __future__ import annotations

import numpy as np
import pytest

from models import outside
from services.common.scope import SCORES, Floats, Gate

CLASSES = 10


def logits(seed: int, count: int, height: float) -> tuple[Floats, np.ndarray]:
    """Logits of `count` sentences whose right class stands out by about `height`, and those classes."""
    random = np.random.default_rng(seed)
    targets = random.integers(0, CLASSES, count)
    rows = random.normal(0, 1, (count, CLASSES))
    rows[np.arange(count), targets] += height
    return rows, targets


@pytest.mark.parametrize("score", SCORES)
def test_a_gate_costs_validation_no_more_than_it_may_and_recognises_strangers(score: str) -> None:
    valid, targets = logits(1, 2000, 6.0)
    gate = outside.choose(score, valid, targets)
    strange, _ = logits(2, 500, 0.0)
    on_valid = outside.measure(gate, valid, targets, strange)
    assert on_valid.accuracy - on_valid.accuracy_gated <= outside.IN_SCOPE_LOSS + 1e-9
    assert on_valid.recall > 0.5
    test, wanted = logits(3, 2000, 6.0)
    unseen = outside.measure(gate, test, wanted, strange)
    assert unseen.accuracy - unseen.accuracy_gated < 0.03
    # What may cost nothing may reject nobody who was right.
    assert outside.measure(Gate(score, -np.inf), test, wanted, strange).recall == 0


def test_a_threshold_is_the_highest_that_is_allowed() -> None:
    valid, targets = logits(1, 1000, 6.0)
    gate = outside.choose("energy", valid, targets)
    stricter = Gate("energy", float(np.nextafter(gate.threshold, np.inf)))
    done = outside.measure(stricter, valid, targets, valid)
    assert done.accuracy - done.accuracy_gated > outside.IN_SCOPE_LOSS


def test_the_best_score_is_the_one_that_recognises_most_and_the_first_of_equals() -> None:
    assert outside.best({"largest": 0.7, "certainty": 0.8, "energy": 0.2}) == "certainty"
    assert outside.best({"largest": 0.7, "energy": 0.7}) == "energy"
