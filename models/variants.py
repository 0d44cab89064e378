"""The variants of an exported model as measured, and what speaks against serving one of them.

INT8 activations that are scaled as they come take their scale from all that runs together, so an item's answer comes to
depend on the items that it happens to share a batch with. A server that batches what arrives must not do that: such a
variant is served one sentence at a time, or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_LOSS = 0.005
"""Accuracy (0..1) on the validation part that a variant may lose against FP32."""

MAX_LEAK = 1e-2
"""Largest difference of a logit, alone against in a batch, that is still taken for rounding."""

MAX_SLOWDOWN = 1.05
"""Largest p50 against FP32 at batch 1; the margin is the noise of a shared machine."""


@dataclass(frozen=True)
class Variant:
    """A variant as measured.

    Megabytes of the model file, accuracy (0..1) on the first set's validation part, p50 milliseconds by batch size, and
    what its neighbours in a batch do to an item: largest change of a logit, labels flipped of so many sentences.
    """

    name: str
    size_mb: float
    valid: float
    p50_ms: Mapping[int, float]
    leak: float
    flipped: int
    sentences: int

    def described(self, fp32: Variant) -> dict[str, Any]:
        """The variant's part of a card."""
        return {
            "size_mb": round(self.size_mb, 3),
            "valid": round(self.valid, 4),
            "p50_ms": {str(batch): round(ms, 4) for batch, ms in self.p50_ms.items()},
            "batch_moves_logits": float(f"{self.leak:.2g}"),
            "batch_flips_labels": self.flipped,
            "batch_sentences": self.sentences,
            "objections": objections(self, fp32),
        }


def objections(variant: Variant, fp32: Variant) -> list[str]:
    """Why `variant` must not be served in place of `fp32`; empty when nothing speaks against it."""
    found = []
    if fp32.valid - variant.valid > MAX_LOSS:
        found.append(f"loses {100 * (fp32.valid - variant.valid):.1f} points of accuracy")
    if variant.flipped:
        found.append(f"neighbours in a batch flip {variant.flipped} labels of {variant.sentences}")
    if variant.leak > MAX_LEAK:
        found.append(f"neighbours in a batch move logits by up to {variant.leak:.2g}")
    if variant.p50_ms[1] > MAX_SLOWDOWN * fp32.p50_ms[1]:
        found.append(f"takes {variant.p50_ms[1] / fp32.p50_ms[1]:.2f} times as long")
    return found
