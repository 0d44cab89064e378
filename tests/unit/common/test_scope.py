"""Scores of logits that tell a strange text from others."""

from __future__ import annotations

import numpy as np

from services.common.scope import SCORES, Gate


def test_scores_are_what_their_formulas_say() -> None:
    rows = np.array([[0.0, 0.0], [1000.0, 0.0]])
    expected = {"energy": [np.log(2), 1000.0], "largest": [0.5, 1.0], "certainty": [-np.log(2), 0.0]}
    assert set(SCORES) == set(expected)
    for name, score in SCORES.items():
        np.testing.assert_allclose(score(rows), expected[name], atol=1e-12)


def test_scores_are_finite_for_single_precision_and_logits_far_apart() -> None:
    rows = np.array([[1e4, -1e4, 0.0]], np.float32)
    assert all(np.isfinite(score(rows)).all() for score in SCORES.values())


def test_a_gate_rejects_what_scores_below_its_threshold_and_nothing_at_it() -> None:
    rows = np.array([[3.0, 0.0], [0.1, 0.0]])
    threshold = float(SCORES["largest"](rows)[0])
    assert Gate("largest", threshold).rejects(rows).tolist() == [False, True]
