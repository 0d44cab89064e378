"""Smaller files of an exported encoder: INT8 and 4-bit weights.

Per channel, or MiniLM loses: one scale for a whole matrix moved its sentence vectors by 0.03 to 0.12 of cosine where a
scale for each column moved them by 0.008. The table of tokens is half of the file, so it is made smaller too.
INT8 activations take their scale from all that runs together: such a file is served one sentence at a time. At this
size a sentence fills the core by itself, so that costs next to nothing; see the card for both speeds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

BLOCK = 32
"""Weights that share a scale in 4 bits."""


def int8(fp32: Path, out: Path) -> Path:
    """INT8 weights, INT8 activations scaled as they come.

    The weights use seven of their eight bits: where a processor has no VNNI, two products of full range saturate the
    16 bits that they are added in, and answers would differ from machine to machine.
    """
    quantize_dynamic(
        str(fp32),
        str(out),
        op_types_to_quantize=["Gather", "MatMul"],
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=True,
    )
    return out


def int4(fp32: Path, out: Path) -> Path:
    """4-bit weights in blocks of BLOCK, the table of tokens too; activations are rounded to 8 bits block by block,
    which no neighbour has a say in."""
    from onnxruntime.quantization.matmul_nbits_quantizer import (  # noqa: PLC0415 (training only)
        MatMulNBitsQuantizer,
    )

    # It tells every node it touches.
    logging.getLogger("onnxruntime.quantization.matmul_nbits_quantizer").setLevel(logging.WARNING)
    quantizer = MatMulNBitsQuantizer(
        onnx.load(str(fp32)),
        bits=4,
        block_size=BLOCK,
        is_symmetric=True,
        accuracy_level=4,
        op_types_to_quantize=("MatMul", "Gather"),
        quant_axes=(("MatMul", 0), ("Gather", 1)),
    )
    quantizer.process()
    quantizer.model.save_model_to_file(str(out), False)
    return out


KINDS: Mapping[str, Callable[[Path, Path], Path]] = {"int8": int8, "int4": int4}
"""Variant -> how it is written."""

MAX_BATCH: Mapping[str, int] = {"int8": 1, "int4": 8}
"""Variant -> how many sentences its card lets run together: one where an answer would depend on its neighbours, few
where a sentence fills the core by itself and more would only wait for each other."""
