"""Smaller files of an exported model, each way a function: the FP32 file in, the smaller one out.

None of these needs sentences: `models.methods.static` has those that calibrate, `models.methods.qat` those that train.
"""

from __future__ import annotations

import functools
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic

from models.intents import measure
from models.intents.utterances import Utterance
from models.methods.row import Row
from models.methods.timing import p50s

Quantiser = Callable[[Path, Path], Path]

BLOCK, WIDE = 32, 128
"""Weights that share a scale in 4 bits, and numbers of a row that do where a table is to be small."""

LEAST = 256
"""Numbers below which a tensor is not worth a scale."""

TOGETHER = 256
"""Sentences on which the effect of neighbours is measured, 32 at a time."""


def int8(fp32: Path, out: Path, *, per_channel: bool = True, reduce_range: bool = True) -> Path:
    """INT8 weights, one scale for each column; INT8 activations scaled as they come, from all that runs together.

    Per channel, or MiniLM loses: one scale for a whole matrix moved its sentence vectors by 0.03 to 0.12 of cosine
    where a scale for each column moved them by 0.008. With `reduce_range` the weights use seven of their eight bits:
    where a processor has no VNNI, two products of full range saturate the 16 bits that they are added in, and answers
    would differ between machines.
    """
    return _in_8_bits(fp32, out, "Gather", "MatMul", per_channel=per_channel, reduce_range=reduce_range)


def int8_table_int4(fp32: Path, out: Path) -> Path:
    """As `int8`, with the tables that are looked things up in 4 bits: in the room of a row of 8 bits there are nearly
    two, and a word that a model knows roughly is worth more than one that it does not know."""
    with tempfile.TemporaryDirectory() as folder:
        products = _in_8_bits(fp32, Path(folder) / "products.onnx", "MatMul")
        return _in_4_bits(products, out, "Gather")


def int8_dynamic_lstm(fp32: Path, out: Path) -> Path:
    """As `int8` for a graph with LSTM nodes, whose states are then INT8 too, scaled from all that runs together."""
    quantize_dynamic(
        str(fp32), str(out), op_types_to_quantize=["Gather", "LSTM", "MatMul"], weight_type=QuantType.QInt8
    )
    return out


def table_int8(fp32: Path, out: Path) -> Path:
    """The tables that are looked things up in (tokens, positions) as UINT8 with one scale and zero point each, which
    stay so in memory; a row becomes floats when it is fetched. No neighbour has a say in that."""
    quantize_dynamic(str(fp32), str(out), op_types_to_quantize=["Gather"], weight_type=QuantType.QInt8)
    return out


def int4(fp32: Path, out: Path) -> Path:
    """4-bit weights in blocks of BLOCK, the table of tokens too; activations are rounded to 8 bits block by block,
    which no neighbour has a say in."""
    return _in_4_bits(fp32, out, "MatMul", "Gather")


def int8_attention_int4(fp32: Path, out: Path) -> Path:
    """As `int4`, with the products of attention as in `int8`: an eighth of their time less, which the table of tokens
    pays for in blocks of WIDE. Neighbours have a say in them again. A graph without attention becomes `int4`."""
    model = onnx.load(str(fp32))
    constants = {constant.name for constant in model.graph.initializer}
    attention = [
        node.name
        for node in model.graph.node
        if node.op_type == "MatMul" and node.input[1] in constants and ".attention." in node.input[1]
    ]
    if not attention:
        return int4(fp32, out)
    with tempfile.TemporaryDirectory() as folder:
        products = _in_8_bits(fp32, Path(folder) / "products.onnx", "MatMul", nodes=attention)
        rest = _in_4_bits(products, Path(folder) / "rest.onnx", "MatMul")
        return _in_4_bits(rest, out, "Gather", block=WIDE)


def _in_8_bits(
    path: Path,
    out: Path,
    *kinds: str,
    per_channel: bool = True,
    reduce_range: bool = True,
    nodes: Sequence[str] | None = None,
) -> Path:
    """The constants of nodes of these kinds, of all of them or of those that are named."""
    quantize_dynamic(
        str(path),
        str(out),
        op_types_to_quantize=list(kinds),
        weight_type=QuantType.QInt8,
        per_channel=per_channel,
        reduce_range=reduce_range,
        nodes_to_quantize=nodes,
    )
    return out


def _in_4_bits(path: Path, out: Path, *kinds: str, block: int = BLOCK) -> Path:
    """The constants of nodes of these kinds in blocks of so many."""
    from onnxruntime.quantization.matmul_nbits_quantizer import (  # noqa: PLC0415 (training only)
        MatMulNBitsQuantizer,
    )

    # It tells every node it touches.
    logging.getLogger("onnxruntime.quantization.matmul_nbits_quantizer").setLevel(logging.WARNING)
    quantizer = MatMulNBitsQuantizer(
        onnx.load(str(path)),
        bits=4,
        block_size=block,
        is_symmetric=True,
        accuracy_level=4,
        op_types_to_quantize=kinds,
        quant_axes=(("MatMul", 0), ("Gather", 1)),
    )
    quantizer.process()
    quantizer.model.save_model_to_file(str(out), False)
    return out


def float16(fp32: Path, out: Path) -> Path:
    """Weights and activations of 16 bits, inputs and outputs as before: half of the file. A CPU without kernels for
    them computes in 32 bits between casts, so this is for comparison, and for accelerators."""
    from onnxruntime.transformers.float16 import convert_float_to_float16  # noqa: PLC0415 (training only)

    onnx.save(convert_float_to_float16(onnx.load(str(fp32)), keep_io_types=True), str(out))
    return out


def weights_int8(fp32: Path, out: Path) -> Path:
    """INT8 weights that ONNX Runtime makes floats again as it loads them: a quarter of the file, the speed of FP32, and
    activations that no neighbour has a say in.

    Each weight becomes Mul(Cast(codes), scales), which is folded into a constant at load; a DequantizeLinear would not
    be, and would run with every sentence. Symmetric, one scale for each row of a table or an LSTM gate, and each column
    of a matrix. What is INT8 already stays as it is.
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
        elif node.op_type == "Gemm":
            found[node.input[1]] = -1 if _attribute(node, "transB") else 0
        elif node.op_type == "LSTM":
            found |= {name: -1 for name in node.input[1:3]}
    return found


def _attribute(node: onnx.NodeProto, name: str) -> int:
    return next((int(given.i) for given in node.attribute if given.name == name), 0)


KINDS: Mapping[str, Quantiser] = {
    "int8": int8,
    "int8-full-range": functools.partial(int8, reduce_range=False),
    "int8-per-tensor": functools.partial(int8, per_channel=False),
    "int8-table-int4": int8_table_int4,
    "int8-lstm": int8_dynamic_lstm,
    "int8-table": table_int8,
    "weights-int8": weights_int8,
    "int4": int4,
    "int8-attention-int4": int8_attention_int4,
    "float16": float16,
}
"""Variant -> how it is written."""


class Valid(NamedTuple):
    """What variants are measured on: a set's name, token ids and intents of its validation part, and the intents in the
    order of `logits`."""

    name: str
    rows: Sequence[Sequence[int]]
    items: Sequence[Utterance]
    labels: Sequence[str]


def ablate(
    fp32: Path,
    kinds: Mapping[str, Quantiser],
    valid: Valid,
    folder: Path,
    *,
    parameters: int | None = None,
    stacked: Sequence[str] = (),
) -> list[Row]:
    """A row for `fp32` and for what each of `kinds` makes of it in `folder`: accuracy on the validation part, each
    sentence alone; size; p50 of all in turns; what neighbours do, in the note.

    stacked: the methods that made `fp32` what it is; it is then taken for measured, and has no row.
    Raises ValueError when there is nothing to measure on.
    """
    if not valid.rows or not kinds:
        raise ValueError(
            f"{len(kinds)} kinds to measure on {len(valid.rows)} sentences of {valid.name!r}: give some of both"
        )
    paths = {"fp32": fp32} | {name: make(fp32, folder / f"{name}.onnx") for name, make in kinds.items()}
    sessions = {name: measure.open_session(path) for name, path in paths.items()}
    vocabulary = 1 + max(max(row, default=0) for row in valid.rows)
    times = p50s(list(sessions.values()), tokens=measure.SPEED_TOKENS, vocabulary=max(vocabulary, 3))
    rows = []
    for (name, session), ms in zip(sessions.items(), times, strict=True):
        if name == "fp32" and stacked:
            continue  # a row of those methods has it already
        operators = [node.op_type for node in onnx.load(str(paths[name])).graph.node]
        leak = measure.leak(session, valid.rows[:TOGETHER])
        notes = [
            f"neighbours in a batch move logits by up to {leak.logits:.2g} and flip {leak.flipped} labels of "
            f"{min(TOGETHER, len(valid.rows))}",
            f"{ms / times[0]:.2f} times the p50 of fp32, in turns",
        ]
        if "LSTM" in operators and "QuantizeLinear" in operators:
            notes.append("the LSTM's products stay float: ONNX Runtime has no static kernel for them")
        rows.append(
            Row(
                method="quantise" if name != "fp32" else "unchanged",
                setting=name,
                stacked=tuple(stacked),
                parameters=parameters,
                size_mb=paths[name].stat().st_size / 1e6,
                p50_ms=ms,
                accuracy={
                    valid.name: measure.evaluate(session, valid.rows, valid.items, valid.labels).accuracy
                },
                note="; ".join(notes),
                nodes=len(operators),
            )
        )
    return rows
