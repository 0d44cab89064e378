"""Smaller variants of an exported model, and the choice of the one that is served.

Dynamic INT8 takes the scale of an activation from the whole batch, so an item's answer comes to depend on the
items it happens to share a batch with. A server that batches what arrives must not do that; hence the variant
with INT8 weights in the embedding alone, and a choice that looks at independence before it looks at size.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from onnxruntime.quantization import QuantType, quantize_dynamic

VARIANTS: Mapping[str, tuple[str, ...]] = {
    "fp32": (),
    "int8-embedding": ("Gather",),
    "int8-dynamic": ("Gather", "LSTM", "MatMul"),
}
"""Operators whose weights become INT8, by variant; LSTM and MatMul bring INT8 activations with them."""

MAX_LOSS = 0.005
"""Accuracy (0..1) on the validation part that a variant may lose against FP32."""

MAX_LEAK = 1e-2
"""Largest difference of a logit, alone against in a batch, that is still taken for rounding."""

MAX_SLOWDOWN = 1.05
"""Largest p50 against FP32 at batch 1; the margin is the noise of a shared machine."""


@dataclass(frozen=True)
class Variant:
    """A variant as measured.

    Megabytes, accuracy (0..1) on the validation part, p50 milliseconds by batch size, and what its neighbours
    in a batch do to an item (largest change of a logit, number of labels flipped).
    """

    name: str
    size_mb: float
    valid: float
    p50_ms: Mapping[int, float]
    leak: float
    flipped: int


def write_variants(fp32: Path, folder: Path) -> dict[str, Path]:
    """Write every variant of the model `fp32` to `folder` and return their paths by name."""
    paths = {}
    for name, operators in VARIANTS.items():
        paths[name] = fp32
        if operators:
            paths[name] = folder / f"{name}.onnx"
            quantize_dynamic(
                str(fp32), str(paths[name]), op_types_to_quantize=list(operators), weight_type=QuantType.QInt8
            )
    return paths


def objections(variant: Variant, fp32: Variant) -> list[str]:
    """Why `variant` must not be served in place of `fp32`; empty when nothing speaks against it."""
    found = []
    if fp32.valid - variant.valid > MAX_LOSS:
        found.append(f"loses {100 * (fp32.valid - variant.valid):.1f} points of accuracy")
    if variant.flipped:
        found.append(f"neighbours in a batch flip {variant.flipped} labels")
    if variant.leak > MAX_LEAK:
        found.append(f"neighbours in a batch move logits by up to {variant.leak:.2g}")
    if variant.p50_ms[1] > MAX_SLOWDOWN * fp32.p50_ms[1]:
        found.append(f"takes {variant.p50_ms[1] / fp32.p50_ms[1]:.2f} times as long")
    return found


def choose(variants: Mapping[str, Variant]) -> Variant:
    """The smallest variant that nothing speaks against; FP32 itself always qualifies."""
    fp32 = variants["fp32"]
    return min((v for v in variants.values() if not objections(v, fp32)), key=lambda v: v.size_mb)
