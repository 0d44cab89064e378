"""The weights of a catalog entry's network as floats, read back from its ONNX file.

Two kinds are known: the BiLSTM of the smallest tier and the transformer encoder of the larger ones. What was quantised
comes back as the floats that it stands for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray

from models.emit import LstmWeights

if TYPE_CHECKING:
    from models.minilm.network import Encoder

Floats = NDArray[np.float32]
Tensors = Mapping[str, NDArray[Any]]

EMBEDDING = "embedding"
"""The output of an encoder that is a sentence's vector and no head's."""


class Head(NamedTuple):
    """A linear head. weight: [features, classes]; bias: [classes]."""

    weight: Floats
    bias: Floats


class Recurrent(NamedTuple):
    """The BiLSTM. embedding: [tokens, features]; forward, backward: gates i, f, g, o; heads by output.

    floor: whether the maximum over the steps is 0 at least, as models.intents.network has it.
    """

    embedding: Floats
    forward: LstmWeights
    backward: LstmWeights
    floor: bool
    heads: Mapping[str, Head]


class Transformer(NamedTuple):
    """The encoder of models.minilm and its heads by output."""

    encoder: Encoder
    heads: Mapping[str, Head]


Weights = Recurrent | Transformer


def read(folder: Path) -> Weights:
    """The network of the entry in `folder`.

    Raises ValueError when model.onnx holds neither kind, OSError when it cannot be read, and ModuleNotFoundError for an
    encoder where JAX is not installed.
    """
    path = folder / "model.onnx"
    model = onnx.load(str(path))
    held = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    heads = _heads(model, held, path)
    if any(node.op_type in {"LSTM", "DynamicQuantizeLSTM"} for node in model.graph.node):
        return _recurrent(model, held, heads, path)
    from models.minilm.restore import restore  # noqa: PLC0415 (JAX may be missing, and a BiLSTM needs none)

    encoder, found, _ = restore(folder)
    return Transformer(
        encoder, {name: Head(np.asarray(head.weight), np.asarray(head.bias)) for name, head in found.items()}
    )


def _heads(model: onnx.ModelProto, held: Tensors, path: Path) -> dict[str, Head]:
    """The heads, after making sure that nothing else comes out: what is left out in silence is a wrong answer later."""
    named = {
        # A single head of an older file is called `head`, and its output `logits`.
        (found[1] or "logits").removeprefix("."): found[0].removesuffix(".bias")
        for name in held
        if (found := re.fullmatch(r"head(\..+)?\.bias", name))
    }
    for output in model.graph.output:
        if output.name == EMBEDDING:
            continue
        if output.name not in named or len(output.type.tensor_type.shape.dim) != 2:
            raise ValueError(
                f"{path} has the output {output.name!r}, which is no linear head over a whole sentence; write "
                "--formats onnx,ort, which need no weights read back"
            )
    try:
        return {
            output: Head(floats(held, f"{name}.weight"), floats(held, f"{name}.bias"))
            for output, name in named.items()
        }
    except KeyError as missing:
        raise _strange(path, missing) from None


def _recurrent(model: onnx.ModelProto, held: Tensors, heads: Mapping[str, Head], path: Path) -> Recurrent:
    ops = [node.op_type for node in model.graph.node]
    if ops.count("LSTM") + ops.count("DynamicQuantizeLSTM") != 1:
        raise ValueError(
            f"{path} has several LSTM nodes; a network of one bidirectional layer can be exported"
        )
    try:
        kernel, recurrent = floats(held, "lstm.W"), floats(held, "lstm.R")
        bias, embedding = floats(held, "lstm.B"), floats(held, "embedding")
    except KeyError as missing:
        raise _strange(path, missing) from None
    if kernel.shape[0] != 2:
        raise ValueError(f"{path} has an LSTM of {kernel.shape[0]} direction; one of two can be exported")
    if "DynamicQuantizeLSTM" in ops:
        # That node keeps its matrices transposed: [directions, features, 4 * hidden].
        kernel, recurrent = kernel.transpose(0, 2, 1), recurrent.transpose(0, 2, 1)
    both = [
        LstmWeights(
            trained_gates(kernel[way]),
            trained_gates(recurrent[way]),
            trained_gates(bias[way].reshape(2, -1).sum(axis=0)),
        )
        for way in range(2)
    ]
    return Recurrent(embedding, both[0], both[1], "Relu" in ops, heads)


def trained_gates(array: ArrayLike) -> Floats:
    """Reorder gates stacked on the first axis from ONNX's i, o, f, c back to i, f, g, o: what undoes
    models.emit.onnx_gates."""
    i, o, f, c = np.split(np.asarray(array, np.float32), 4, axis=0)
    return np.concatenate([i, f, c, o], axis=0)


def floats(held: Tensors, name: str) -> Floats:
    """The tensor `name` as floats, quantised or not: (codes - zero point) * scale. Raises KeyError when there is
    none."""
    if name in held:
        return np.asarray(held[name], np.float32)
    codes = held[f"{name}_quantized"].astype(np.float32)
    scale = held[f"{name}_scale"].astype(np.float32)
    zero = held.get(f"{name}_zero_point", np.zeros_like(scale)).astype(np.float32)
    if codes.ndim == 3 and scale.ndim in {1, 2}:
        # A scale for each direction of an LSTM, or for each column of each direction.
        scale, zero = (s.reshape(codes.shape[0], 1, -1) for s in (scale, zero))
    return np.asarray((codes - zero) * scale, np.float32)


def _strange(path: Path, missing: KeyError) -> ValueError:
    return ValueError(
        f"{path} has no tensor {missing}: its weights cannot be read back; export an entry that is not of 4 bits, "
        "or write only --formats onnx,ort"
    )
