"""Static INT8: the scales of activations are measured on sentences once, before the file is written, and stay.

Asymmetric: UINT8 activations whose zero point lies where the measured range puts it, INT8 weights with a scale for each
column. Since nothing is scaled as it comes, neighbours in a batch have no say in an answer. Quantised are the linear
products (MatMul by a constant); what they give stays float, which ONNX Runtime runs as one fused product. An LSTM has
no static kernel in ONNX Runtime: its products stay float, and only its file shrinks (see `quantise.weights_int8`).

How a range is chosen: the least and largest value seen (MinMax), the symmetric threshold that loses least information
(Entropy: Migacz 2017, "8-bit Inference with TensorRT"), or bounds that leave a small share of the values outside
(Percentile).
"""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.calibrate import TensorData, TensorsData, create_calibrator, save_tensors_data

from models.methods.quantise import Quantiser, table_int8, weights_int8

Ranges = Mapping[str, tuple[float, float]]
"""Name of a tensor -> its least and its largest value."""

BINS = 512
"""Of a histogram. ONNX Runtime's own number for Entropy is as many as it then merges them into, 128, which leaves it a
single threshold to choose from: the largest value."""


AXIS = "lifted_axis"
"""The constant 0, where a file needs it."""


class Choice(NamedTuple):
    """How ranges are chosen. percentile: share of the values, in percent, that is inside; for Percentile only."""

    method: CalibrationMethod
    percentile: float = 100.0


MINMAX = Choice(CalibrationMethod.MinMax)
ENTROPY = Choice(CalibrationMethod.Entropy)
PERCENTILE = Choice(CalibrationMethod.Percentile, 99.99)


class Sentences:
    """Rows of token ids as a model takes them, one at a time: padding would be measured too."""

    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        self._feeds = iter([feed(row) for row in rows])

    def get_next(self) -> dict[str, Any] | None:
        """The next sentence's inputs, None after the last."""
        return next(self._feeds, None)


def feed(row: Sequence[int]) -> dict[str, Any]:
    """ids int64 [1, tokens] and lengths int64 [1] of one sentence."""
    return {"ids": np.array([row], np.int64), "lengths": np.array([len(row)], np.int64)}


def calibrate(
    fp32: Path, rows: Sequence[Sequence[int]], choice: Choice, operators: Sequence[str] = ("MatMul",)
) -> Ranges:
    """The ranges of what goes into and comes out of the nodes of `operators` (none: of all), over `rows` of token ids.

    Raises ValueError when there is nothing to measure on.
    """
    if not any(len(row) for row in rows):
        raise ValueError("no sentence to calibrate on; give some dozens, of the training part")
    options: dict[str, Any] = {}
    if choice.method != CalibrationMethod.MinMax:
        options = {"symmetric": False, "num_bins": BINS, "percentile": choice.percentile}
    with tempfile.TemporaryDirectory() as folder, _silent():
        calibrator = create_calibrator(
            fp32, list(operators), str(Path(folder) / "watched.onnx"), choice.method, extra_options=options
        )
        # One sentence in each call: tensors of different lengths do not fit into one array.
        for row in rows:
            if row:
                calibrator.collect_data(Sentences([row]))
        found = calibrator.compute_data()
    return {name: _pair(found[name]) for name in found.keys()}  # noqa: SIM118 (no mapping)


def _pair(data: TensorData) -> tuple[float, float]:
    low, high = data.range_value
    return float(np.asarray(low).reshape(-1)[0]), float(np.asarray(high).reshape(-1)[0])


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """The calibrators print with every sentence."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def products(model: onnx.ModelProto) -> list[tuple[str, str]]:
    """The linear products of a graph in its order: names of the constant and of what it is multiplied with."""
    constants = _constants(model)
    return [(node.input[1], node.input[0]) for node in model.graph.node if _linear(node, constants)]


def _linear(node: onnx.NodeProto, constants: Set[str]) -> bool:
    return node.op_type == "MatMul" and node.input[1] in constants and node.input[0] not in constants


def _constants(model: onnx.ModelProto) -> set[str]:
    return {tensor.name for tensor in model.graph.initializer}


def quantise(fp32: Path, out: Path, ranges: Ranges, *, reduce_range: bool = False) -> Path:
    """Write `fp32` with linear products of INT8, the inputs of each scaled by its entry in `ranges`, and tables of
    UINT8.

    reduce_range: see `quantise.int8`. Raises ValueError when a product's input has no range.
    """
    model = onnx.load(str(fp32))
    if missing := sorted({given for _, given in products(model)} - set(ranges)):
        raise ValueError(
            f"{fp32.name} multiplies {missing[0]!r}, which has no range among the {len(ranges)} given; "
            "calibrate on this very file"
        )
    constants = _constants(model)
    left = [node.name for node in model.graph.node if not _linear(node, constants)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = table_int8(fp32, folder / "table.onnx")
        rounded = _write(table, folder / "rounded.onnx", ranges, ["MatMul"], left, reduce_range)
        straight = onnx.load(str(rounded))
        _pass_by(straight)
        _lift(straight, _flat(model))
        onnx.save(straight, str(folder / "straight.onnx"))
        return weights_int8(folder / "straight.onnx", out)


def _pass_by(model: onnx.ModelProto) -> None:
    """Let only products take what was rounded for them. `quantize_static` gives it to all that read the tensor, and the
    sums past the layers, which no product needs rounded, would be rounded with every layer again."""
    floats = _floats(model)
    for node in model.graph.node:
        if node.op_type != "MatMul":
            node.input[:] = [floats.get(name, name) for name in node.input]


def _lift(model: onnx.ModelProto, flat: Set[str]) -> None:
    """Give the products of the tensors `flat`, of two dimensions, a third. Of a MatMul of two and the Add behind it
    ONNX Runtime makes a float Gemm as it loads the file, and the weight would be made floats with every sentence."""
    floats, nodes = _floats(model), []
    for node in model.graph.node:
        given = node.input[0] if node.input else ""
        if node.op_type == "QuantizeLinear" and given in flat:
            nodes.append(onnx.helper.make_node("Unsqueeze", [given, AXIS], [f"{given}_lifted"]))
            node.input[0] = f"{given}_lifted"
        nodes.append(node)
        if node.op_type == "MatMul" and floats.get(given) in flat:
            result, node.output[0] = node.output[0], f"{node.output[0]}_lifted"
            nodes.append(onnx.helper.make_node("Squeeze", [node.output[0], AXIS], [result]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0], np.int64), AXIS))
    lifted = [copy.deepcopy(node) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(lifted)


def _floats(model: onnx.ModelProto) -> dict[str, str]:
    """What is rounded in a graph -> the tensor that it was."""
    before = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    return {
        node.output[0]: before[node.input[0]]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in before
    }


def _flat(model: onnx.ModelProto) -> set[str]:
    """The tensors of two dimensions that a graph's linear products take."""
    shapes = onnx.shape_inference.infer_shapes(model).graph.value_info
    two = {value.name for value in shapes if len(value.type.tensor_type.shape.dim) == 2}
    return two & {given for _, given in products(model)}


def quantise_all(
    fp32: Path, out: Path, ranges: Ranges, *, reduce_range: bool = False, masks: bool = False
) -> Path:
    """Write `fp32` with every operator quantised that ONNX Runtime has a static form for, results as well as inputs.
    `ranges` must hold all of its tensors.

    Softmax and what is added up for it stay float unless `masks` says otherwise, as `quantize_static` by itself would:
    what bars the padding is then rounded to the range of the scores, and bars nothing.
    """
    model = onnx.load(str(fp32))
    asked = {node.input[0] for node in model.graph.node if node.op_type == "Softmax"}
    barred = [
        node.name for node in model.graph.node if node.op_type == "Softmax" or asked.intersection(node.output)
    ]
    return _write(fp32, out, ranges, [], [] if masks else barred, reduce_range)


def _write(
    model: Path, out: Path, ranges: Ranges, operators: Sequence[str], left: Sequence[str], reduce_range: bool
) -> Path:
    options: dict[str, Any] = {"ActivationSymmetric": False, "WeightSymmetric": True}
    with tempfile.TemporaryDirectory() as folder:
        # Ranges go in by the file that ONNX Runtime keeps its own in; scales are then its own as well.
        kept = Path(folder) / "ranges.json"
        save_tensors_data(_tensors(ranges), kept)
        quantize_static(
            str(model),
            str(out),
            calibration_cache_path=str(kept),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(operators),
            nodes_to_exclude=list(left),
            per_channel=True,
            reduce_range=reduce_range,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options=options | {"OpTypesToExcludeOutputQuantization": list(operators)},
        )
    return out


def _tensors(ranges: Ranges) -> TensorsData:
    pairs = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    return TensorsData(CalibrationMethod.MinMax, pairs)


def kinds(rows: Sequence[Sequence[int]]) -> Mapping[str, Quantiser]:
    """Variant -> how it is written, for `quantise.ablate`; rows: token ids of sentences to calibrate on, none of which
    may be among those that the variants are then measured on."""

    def calibrated(choice: Choice, write: Callable[[Path, Path, Ranges], Path], every: bool) -> Quantiser:
        def run(fp32: Path, out: Path) -> Path:
            return write(fp32, out, calibrate(fp32, rows, choice, () if every else ("MatMul",)))

        return run

    return {
        "static-asymmetric-minmax": calibrated(MINMAX, quantise, False),
        "static-asymmetric-entropy": calibrated(ENTROPY, quantise, False),
        "static-asymmetric-percentile": calibrated(PERCENTILE, quantise, False),
        "static-all-asymmetric-minmax": calibrated(MINMAX, quantise_all, True),
        "static-all-and-masks-asymmetric-minmax": calibrated(
            MINMAX, functools.partial(quantise_all, masks=True), True
        ),
    }
