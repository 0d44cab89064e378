"""What a summary is made of."""

from __future__ import annotations

import numpy as np
import pytest

from services.common.central import central


def test_the_most_central_sentences_leave_the_stray_out_and_keep_the_order_of_the_text() -> None:
    text = np.array([[0.0, 1.0], [1.0, 0.0], [0.9, 0.436], [0.98, 0.199]], np.float32)
    assert central(text, 2) == [2, 3]
    assert central(text, 9) == [0, 1, 2, 3], "a text of four has no fifth sentence"


def test_a_summary_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="0 sentences"):
        central(np.ones((3, 2), np.float32), 0)
