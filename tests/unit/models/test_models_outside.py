"""The gate for sentences that belong to no intent: chosen on validation, within the loss that it may cost."""

from __future__ import annotations

import numpy as np
import pytest

from models import outside

CLASSES = 10


def logits(seed: int, count: int, height: float) -> tuple[outside.Floats, np.ndarray]:
    """Logits of `count` sentences whose right class stands out by about `height`, and those classes."""
    random = np.random.default_rng(seed)
    targets = random.integers(0, CLASSES, count)
    rows = random.normal(0, 1, (count, CLASSES))
    rows[np.arange(count), targets] += height
    return rows, targets


def test_scores_are_what_their_formulas_say() -> None:
    rows = np.array([[0.0, 0.0], [1000.0, 0.0]])
    np.testing.assert_allclose(outside.energy(rows), [np.log(2), 1000.0])
    np.testing.assert_allclose(outside.largest(rows), [0.5, 1.0])
    np.testing.assert_allclose(outside.certainty(rows), [-np.log(2), 0.0], atol=1e-12)


@pytest.mark.parametrize("score", outside.SCORES)
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
    assert outside.measure(outside.Gate(score, -np.inf), test, wanted, strange).recall == 0


def test_a_threshold_is_the_highest_that_is_allowed() -> None:
    valid, targets = logits(1, 1000, 6.0)
    gate = outside.choose("energy", valid, targets)
    stricter = outside.Gate("energy", float(np.nextafter(gate.threshold, np.inf)))
    done = outside.measure(stricter, valid, targets, valid)
    assert done.accuracy - done.accuracy_gated > outside.IN_SCOPE_LOSS
