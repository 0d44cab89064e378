"""Smaller files of an exported model, each way a function: the FP32 file in, the smaller one out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic

Quantiser = Callable[[Path, Path], Path]

BLOCK = 32
"""Weights that share a scale in 4 bits."""

LEAST = 256
"""Numbers below which a tensor is not worth a scale."""


def int8(fp32: Path, out: Path) -> Path:
    """INT8 weights, one scale for each column; INT8 activations scaled as they come, from all that runs together.

    Per channel, or MiniLM loses: one scale for a whole matrix moved its sentence vectors by 0.03 to 0.12 of cosine
    where a scale for each column moved them by 0.008. The weights use seven of their eight bits: where a processor
    has no VNNI, two products of full range saturate the 16 bits that they are added in, and answers would differ
    between machines.
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


def int8_dynamic_lstm(fp32: Path, out: Path) -> Path:
    """As `int8` for a graph with LSTM nodes, whose states are then INT8 too, scaled from all that runs together."""
    quantize_dynamic(
        str(fp32), str(out), op_types_to_quantize=["Gather", "LSTM", "MatMul"], weight_type=QuantType.QInt8
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


def weights_int8(fp32: Path, out: Path) -> Path:
    """INT8 weights that ONNX Runtime makes floats again as it loads them: a quarter of the file, the speed of FP32, and
    activations that no neighbour has a say in.

    Each weight becomes Mul(Cast(codes), scales), which is folded into a constant at load; a DequantizeLinear would not
    be, and would run with every sentence. Symmetric, one scale for each row of an LSTM gate and each column of a
    matrix.
    """
    model = onnx.load(str(fp32))
    kept, made = [], []
    axes = _axes(model)
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if tensor.name not in axes or values.dtype != np.float32 or values.size < LEAST:
            kept.append(tensor)
            continue
        codes, scales = coded(values, axes[tensor.name])
        kept += [
            onnx.numpy_helper.from_array(codes, f"{tensor.name}_quantized"),
            onnx.numpy_helper.from_array(scales, f"{tensor.name}_scale"),
        ]
        made += [
            onnx.helper.make_node(
                "Cast", [f"{tensor.name}_quantized"], [f"{tensor.name}_float"], to=onnx.TensorProto.FLOAT
            ),
            onnx.helper.make_node("Mul", [f"{tensor.name}_float", f"{tensor.name}_scale"], [tensor.name]),
        ]
    nodes = [*made, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    onnx.save(model, str(out))
    return out


def coded(values: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Codes -127..127 and scales (1 wide along `axis`) whose product is closest to `values`."""
    scales = np.maximum(np.abs(values).max(axis=axis, keepdims=True), 1e-9) / 127
    return np.round(values / scales).astype(np.int8), scales.astype(np.float32)


def _axes(model: onnx.ModelProto) -> dict[str, int]:
    """The weights of a graph, each with the axis along which one scale holds."""
    found = {}
    for node in model.graph.node:
        if node.op_type == "Gather":
            found[node.input[0]] = -1
        elif node.op_type == "MatMul":
            found[node.input[1]] = 0
        elif node.op_type == "LSTM":
            found |= {name: -1 for name in node.input[1:3]}
    return found


KINDS: Mapping[str, Quantiser] = {
    "int8": int8,
    "int8-lstm": int8_dynamic_lstm,
    "int4": int4,
    "weights-int8": weights_int8,
}
"""Variant -> how it is written."""
