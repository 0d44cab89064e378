"""A small ONNX emitter: recurrent and linear layers from trained weights to one checked file.

Generic exporters unroll an LSTM into `Loop`, which hides it from ONNX Runtime's fused kernel and from its
quantiser; here one layer becomes one `LSTM` node. Names of tensors are plain strings, as in ONNX itself:

    graph = Graph("forecast")
    x = graph.input("history", np.float32, ["steps", "batch", 8])
    out = lstm(graph, x, [LstmWeights(w_ih, w_hh, bias)])
    graph.output(linear(graph, last_features(graph, out), w_head, b_head), "rates", np.float32, ["batch", 7])
    save(graph, Path("model.onnx"))

Sequences are *time-major* here ([steps, batch, features]): the only layout that ONNX Runtime's LSTM accepts.
Node semantics: https://onnx.ai/onnx/operators/onnx__LSTM.html
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, DTypeLike, NDArray

OPSET = 21
"""Operator set of every file written here."""

IR_VERSION = 10
"""File format that belongs to opset 21; ONNX Runtime reads both since 1.20."""

Dim = int | str | None


class Graph:
    """An ONNX graph under construction: values are referred to by name, nodes run in the order of making."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self._names: set[str] = set()

    def input(self, name: str, dtype: DTypeLike, shape: Sequence[Dim]) -> str:
        """Declare an input of the model; a string in `shape` names a dimension known only at run time."""
        self.inputs.append(onnx.helper.make_tensor_value_info(self._claim(name), _element(dtype), shape))
        return name

    def output(self, value: str, name: str, dtype: DTypeLike, shape: Sequence[Dim]) -> str:
        """Declare `value` as the model's output called `name`."""
        self.nodes.append(
            onnx.helper.make_node("Identity", [value], [self._claim(name)], name=f"{name}/output")
        )
        self.outputs.append(onnx.helper.make_tensor_value_info(name, _element(dtype), shape))
        return name

    def constant(self, name: str, value: ArrayLike, dtype: DTypeLike = np.float32) -> str:
        """Store an array (NumPy or JAX) as an initialiser and return its name, made unique when taken."""
        unique = self._fresh(name)
        array = np.ascontiguousarray(np.asarray(value, dtype=dtype))
        # ascontiguousarray turns a scalar into a vector of one; ONNX tells the two apart.
        self.initializers.append(onnx.numpy_helper.from_array(array.reshape(np.shape(value)), unique))
        return unique

    def node(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Append a node with one output and return its name; an empty string omits an optional input."""
        return self.nodes_out(op, inputs, 1, **attributes)[0]

    def nodes_out(self, op: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
        """Append a node with several outputs and return their names in order."""
        stem = self._fresh(op.lower())
        names = [stem] if outputs == 1 else [self._claim(f"{stem}.{index}") for index in range(outputs)]
        self.nodes.append(onnx.helper.make_node(op, list(inputs), names, name=f"{stem}/{op}", **attributes))
        return names

    def _claim(self, name: str) -> str:
        if name in self._names:
            raise ValueError(f"graph {self.name!r} already has a value named {name!r}")
        self._names.add(name)
        return name

    def _fresh(self, stem: str) -> str:
        name, count = stem, 1
        while name in self._names:
            name, count = f"{stem}_{count}", count + 1
        return self._claim(name)


@dataclass(frozen=True)
class LstmWeights:
    """One direction of an LSTM layer, gates stacked in the order i, f, g, o (equinox, PyTorch, Keras).

    kernel: [4 * hidden, features]; recurrent: [4 * hidden, hidden]; bias: [4 * hidden], the sum of both
    biases where a framework keeps two. Any array type NumPy can read.
    """

    kernel: ArrayLike
    recurrent: ArrayLike
    bias: ArrayLike


@dataclass(frozen=True)
class LstmOutput:
    """Names of an LSTM node's outputs; `directions` is 1 or 2, direction 1 is the backward one.

    sequence: [steps, directions, batch, hidden], zero behind an item's length.
    last: [directions, batch, hidden], the state after an item's last valid step (backward: after its first).
    """

    sequence: str
    last: str
    directions: int
    hidden: int


def onnx_gates(array: ArrayLike) -> NDArray[np.float32]:
    """Reorder gates stacked on the first axis from i, f, g, o to ONNX's i, o, f, c (its c is the gate g)."""
    stacked = np.asarray(array, dtype=np.float32)
    if stacked.shape[0] % 4:
        raise ValueError(
            f"first axis must hold 4 gates, its length {stacked.shape[0]} is not a multiple of 4"
        )
    i, f, g, o = np.split(stacked, 4, axis=0)
    return np.concatenate([i, o, f, g], axis=0)


def lstm(
    graph: Graph, x: str, directions: Sequence[LstmWeights], *, lengths: str | None = None, name: str = "lstm"
) -> LstmOutput:
    """Append one `LSTM` node over `x` [steps, batch, features], starting from zero states.

    directions: one set of weights (forward) or two (forward, backward). lengths: name of an int64 or int32
    value [batch] with the valid steps of each item, at most `steps`; without it every step is valid. The
    backward direction starts at an item's last valid step, so padding never enters a state.
    """
    if len(directions) not in (1, 2):
        raise ValueError(f"an LSTM has 1 or 2 directions, not {len(directions)}")
    recurrent = [onnx_gates(weights.recurrent) for weights in directions]
    hidden = recurrent[0].shape[1]
    bias = [
        np.concatenate([onnx_gates(weights.bias), np.zeros(4 * hidden, np.float32)]) for weights in directions
    ]
    inputs = [
        x,
        graph.constant(f"{name}.W", np.stack([onnx_gates(weights.kernel) for weights in directions])),
        graph.constant(f"{name}.R", np.stack(recurrent)),
        graph.constant(f"{name}.B", np.stack(bias)),
    ]
    if lengths is not None:
        inputs.append(graph.node("Cast", [lengths], to=onnx.TensorProto.INT32))
    sequence, last, _ = graph.nodes_out(
        "LSTM",
        inputs,
        3,
        hidden_size=hidden,
        direction="forward" if len(directions) == 1 else "bidirectional",
    )
    return LstmOutput(sequence, last, len(directions), hidden)


def last_features(graph: Graph, out: LstmOutput) -> str:
    """The last states of every direction side by side: [batch, directions * hidden]."""
    return join_directions(graph, out.last, out)


def sequence_features(graph: Graph, out: LstmOutput) -> str:
    """The sequence with directions side by side, for a next layer: [steps, batch, directions * hidden]."""
    if out.directions == 1:
        return graph.node("Squeeze", [out.sequence, graph.constant("axes", [1], np.int64)])
    swapped = graph.node("Transpose", [out.sequence], perm=[0, 2, 1, 3])
    shape = graph.constant("shape", [0, 0, out.directions * out.hidden], np.int64)
    return graph.node("Reshape", [swapped, shape])


def join_directions(graph: Graph, value: str, out: LstmOutput) -> str:
    """Lay directions side by side: [directions, batch, hidden] to [batch, directions * hidden]."""
    if out.directions == 1:
        return graph.node("Squeeze", [value, graph.constant("axes", [0], np.int64)])
    swapped = graph.node("Transpose", [value], perm=[1, 0, 2])
    return graph.node(
        "Reshape", [swapped, graph.constant("shape", [0, out.directions * out.hidden], np.int64)]
    )


def linear(
    graph: Graph, x: str, weight: ArrayLike, bias: ArrayLike | None = None, *, name: str = "linear"
) -> str:
    """Append `x @ weight + bias`; x: [..., features], weight: [features, units], bias: [units]."""
    product = graph.node("MatMul", [x, graph.constant(f"{name}.weight", weight)])
    if bias is None:
        return product
    return graph.node("Add", [product, graph.constant(f"{name}.bias", bias)])


def save(graph: Graph, path: Path, *, metadata: Mapping[str, str] | None = None) -> Path:
    """Check the graph, infer its shapes and write it; returns `path`.

    Raises onnx.checker.ValidationError or onnx.shape_inference.InferenceError when the graph is invalid.
    The bytes depend on the graph alone, so equal weights give an equal file.
    """
    model = onnx.helper.make_model(
        onnx.helper.make_graph(graph.nodes, graph.name, graph.inputs, graph.outputs, graph.initializers),
        producer_name="foremesh",
        ir_version=IR_VERSION,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
    )
    if metadata:
        onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save_model(model, str(path))
    return path


def _element(dtype: DTypeLike) -> int:
    return int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
