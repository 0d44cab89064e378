"""A saved Core ML package evaluated in NumPy: evidence for its weights and its structure where no Mac is at hand.

Core ML runs on Apple's systems only. The program in a package is a list of operations with a published meaning, and
here it is read back from the saved file and worked out, each result rounded to the type that the program gives it. That
finds a wrong gate, axis, mask or scale. It says nothing of speed, nor of the order in which a device adds numbers up.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.mobile.coreml import quiet

Array = NDArray[Any]

TYPES = {
    "fp16": np.float16,
    "fp32": np.float32,
    "int32": np.int32,
    "int16": np.int16,
    "uint16": np.uint16,
    "bool": np.bool_,
}


class Package:
    """A saved package's program; `run` evaluates it. Raises ValueError for one that holds no ML program."""

    def __init__(self, path: Path) -> None:
        with quiet():
            ct = importlib.import_module("coremltools")
            load = importlib.import_module("coremltools.converters.mil.frontend.milproto.load").load
            self._types = importlib.import_module("coremltools.converters.mil.mil").types
            model = ct.models.MLModel(str(path), skip_model_load=True)
            spec = model.get_spec()
            if spec.WhichOneof("Type") != "mlProgram":
                raise ValueError(
                    f"{path} holds a {spec.WhichOneof('Type')}, not an ML program; export it again"
                )
            program = load(
                spec, specification_version=spec.specificationVersion, file_weights_dir=model.weights_dir
            )
        self._main = program.functions["main"]
        # Weights once: they are the same for every sentence.
        self._constants: dict[str, Any] = {}
        for op in self._main.operations:
            if op.op_type == "const":
                self._constants[op.outputs[0].name] = op.outputs[0].val
            elif op.op_type == "constexpr_affine_dequantize":
                self._constants[op.outputs[0].name] = op.materialized_val_inference()

    def run(self, ids: NDArray[np.int32], lengths: NDArray[np.int32]) -> dict[str, NDArray[np.float32]]:
        """The outputs for one sentence, ids [1, tokens] and lengths [1]. Raises ValueError at an operation that is not
        known here."""
        values: dict[str, Any] = {**self._constants, "ids": ids, "lengths": lengths}
        for op in self._main.operations:
            if all(output.name in values for output in op.outputs):
                continue
            work = OPERATIONS.get(op.op_type)
            if work is None:
                raise ValueError(
                    f"the operation {op.op_type!r} is not known to edge.mobile.interpreter; add it there"
                )
            given = {name: self._of(values, var) for name, var in op.inputs.items() if var is not None}
            results = work(given)
            for output, result in zip(op.outputs, results, strict=False):
                values[output.name] = np.asarray(result).astype(self._type(output), copy=False)
        return {output.name: values[output.name] for output in self._main.outputs}

    @staticmethod
    def _of(values: Mapping[str, Any], var: Any) -> Any:
        return tuple(values[v.name] for v in var) if isinstance(var, (list, tuple)) else values[var.name]

    def _type(self, output: Any) -> Any:
        return self._types.nptype_from_builtin(output.dtype)


Given = Mapping[str, Any]


def _wide(x: Any) -> Array:
    """FP16 as float32: an operation rounds once, at its end, as an accelerator with wide sums does."""
    array = np.asarray(x)
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _lstm(given: Given) -> tuple[Array, Array, Array]:
    """One direction over x [steps, 1, features], gates i, f, o, g."""
    kernel, recurrent, bias = (_wide(given[name]) for name in ("weight_ih", "weight_hh", "bias"))
    h, c = _wide(given["initial_h"]), _wide(given["initial_c"])
    states = []
    for x in _wide(given["x"]):
        i, f, o, g = np.split(x @ kernel.T + h @ recurrent.T + bias, 4, axis=-1)
        c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
        h = _sigmoid(o) * np.tanh(c)
        states.append(h)
    return np.stack(states), h, c


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def _softmax(given: Given) -> Array:
    x, axis = _wide(given["x"]), int(given["axis"])
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))


def _layer_norm(given: Given) -> Array:
    x = _wide(given["x"])
    axes = tuple(int(axis) for axis in given["axes"])
    centred = x - x.mean(axis=axes, keepdims=True)
    variance = (centred * centred).mean(axis=axes, keepdims=True)
    scaled = centred / np.sqrt(variance + np.float32(given["epsilon"]))
    return np.asarray(scaled * _wide(given["gamma"]) + _wide(given["beta"]))


def _gelu(given: Given) -> Array:
    if str(given["mode"]) != "EXACT":
        raise ValueError(
            f"gelu of mode {given['mode']} is not known to edge.mobile.interpreter; add it there"
        )
    x = _wide(given["x"])
    erf = np.vectorize(importlib.import_module("math").erf, otypes=[np.float32])
    return np.asarray(0.5 * x * (1 + erf(x / np.sqrt(np.float32(2)))))


def _matmul(given: Given) -> Array:
    x, y = _wide(given["x"]), _wide(given["y"])
    x = np.swapaxes(x, -1, -2) if given.get("transpose_x") else x
    return np.asarray(x @ (np.swapaxes(y, -1, -2) if given.get("transpose_y") else y))


def _axes(given: Given) -> tuple[int, ...]:
    return tuple(int(axis) for axis in np.atleast_1d(given["axes"]))


def _one(work: Callable[[Given], Any]) -> Callable[[Given], tuple[Any, ...]]:
    return lambda given: (work(given),)


def _two(work: Callable[[Array, Array], Any]) -> Callable[[Given], tuple[Any, ...]]:
    return _one(lambda given: work(_wide(given["x"]), _wide(given["y"])))


OPERATIONS: dict[str, Callable[[Given], tuple[Any, ...]]] = {
    "add": _two(np.add),
    "sub": _two(np.subtract),
    "mul": _two(np.multiply),
    "real_div": _two(np.divide),
    "maximum": _two(np.maximum),
    "greater_equal": _two(np.greater_equal),
    "matmul": _one(_matmul),
    "linear": _one(lambda g: _wide(g["x"]) @ _wide(g["weight"]).T + _wide(g["bias"])),
    "gather": _one(lambda g: np.take(np.asarray(g["x"]), np.asarray(g["indices"]), axis=int(g["axis"]))),
    "select": _one(lambda g: np.where(g["cond"], g["a"], g["b"])),
    "cast": _one(lambda g: np.asarray(g["x"]).astype(TYPES[str(g["dtype"])])),
    "clip": _one(lambda g: np.clip(_wide(g["x"]), _wide(g["alpha"]), _wide(g["beta"]))),
    "relu": _one(lambda g: np.maximum(_wide(g["x"]), 0)),
    "identity": _one(lambda g: g["x"]),
    "reshape": _one(lambda g: np.reshape(g["x"], [int(n) for n in g["shape"]])),
    "transpose": _one(lambda g: np.transpose(g["x"], [int(n) for n in g["perm"]])),
    "expand_dims": _one(lambda g: np.expand_dims(g["x"], _axes(g))),
    "squeeze": _one(lambda g: np.squeeze(g["x"], _axes(g))),
    "concat": _one(lambda g: np.concatenate([np.asarray(v) for v in g["values"]], axis=int(g["axis"]))),
    "reduce_max": _one(lambda g: _wide(g["x"]).max(axis=_axes(g), keepdims=bool(g["keep_dims"]))),
    "reduce_l2_norm": _one(
        lambda g: np.sqrt(np.square(_wide(g["x"])).sum(axis=_axes(g), keepdims=bool(g["keep_dims"])))
    ),
    "softmax": _one(_softmax),
    "layer_norm": _one(_layer_norm),
    "gelu": _one(_gelu),
    "lstm": _lstm,
}
"""Operation -> its outputs from its inputs, after coremltools' own description of the operation."""
