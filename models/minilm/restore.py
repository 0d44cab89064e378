"""An encoder read back from a catalog entry: what `models.minilm.export` wrote, made smaller or not.

INT8 weights come back as the floats that they stand for, so a student can start from an entry, and another variant be
made of it, where nobody kept the weights that it was made of.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.minilm.network import Encoder, Layer, Linear, Norm

Floats = NDArray[np.float32]


def restore(folder: Path) -> tuple[Encoder, dict[str, Linear], Tokenizer]:
    """The encoder of the entry in `folder`, its heads by output (`logits`, ...) and its tokenizer.

    Raises ValueError when model.onnx holds no encoder of this kind, OSError when a file cannot be read.
    """
    path = folder / "model.onnx"
    model = onnx.load(str(path))
    held = {value.name: onnx.numpy_helper.to_array(value) for value in model.graph.initializer}
    try:
        encoder, heads = _encoder(held), _heads(held)
    except KeyError as missing:
        raise ValueError(
            f"{path} has no tensor {missing}: it is no encoder that models.minilm.export wrote; name another entry"
        ) from None
    return encoder, heads, Tokenizer.from_file(str(folder / "tokenizer.json"))


def _encoder(held: Mapping[str, NDArray[np.generic]]) -> Encoder:
    layers: list[Layer] = []
    while f"layer{len(layers)}.up.bias" in held:
        layers.append(_layer(held, f"layer{len(layers)}", "by_head" + (f"_{len(layers)}" if layers else "")))
    # A file that stores shared layers once names each once; read as it stands it would come back with fewer layers.
    run = sum(re.fullmatch(r"by_head(_\d+)?", name) is not None for name in held)
    if run != len(layers):
        raise KeyError(f"layer{len(layers)}.up.bias, though {run} layers run")
    return Encoder(_floats(held, "tokens"), _floats(held, "positions"), _norm(held, "norm"), tuple(layers))


def _layer(held: Mapping[str, NDArray[np.generic]], name: str, shape: str) -> Layer:
    heads, size = (int(n) for n in held[shape][2:])
    three = _linear(held, f"{name}.attention.input")
    features = three.weight.shape[0]
    # The scale of the scores was folded into the query.
    query, key, value = (
        Linear(weight.reshape(features, heads, size) * scale, bias.reshape(heads, size) * scale)
        for weight, bias, scale in zip(
            np.split(three.weight, 3, axis=1), np.split(three.bias, 3), (size**0.5, 1.0, 1.0), strict=True
        )
    )
    out = _linear(held, f"{name}.attention.output")
    return Layer(
        query=query,
        key=key,
        value=value,
        output=Linear(out.weight.reshape(heads, size, features), out.bias),
        attention_norm=_norm(held, f"{name}.attention_norm"),
        up=_linear(held, f"{name}.up"),
        down=_linear(held, f"{name}.down"),
        output_norm=_norm(held, f"{name}.output_norm"),
    )


def _heads(held: Mapping[str, NDArray[np.generic]]) -> dict[str, Linear]:
    outputs = [found[1] for name in held if (found := re.fullmatch(r"head\.(.+)\.bias", name))]
    return {output: _linear(held, f"head.{output}") for output in outputs}


def _linear(held: Mapping[str, NDArray[np.generic]], name: str) -> Linear:
    return Linear(_floats(held, f"{name}.weight"), _floats(held, f"{name}.bias"))


def _norm(held: Mapping[str, NDArray[np.generic]], name: str) -> Norm:
    return Norm(_floats(held, f"{name}.scale"), _floats(held, f"{name}.bias"))


def _floats(held: Mapping[str, NDArray[np.generic]], name: str) -> Floats:
    """The tensor as it was exported; one that was quantised (per tensor, or per column; a table also in 4 bits, by
    blocks of its rows) as what it stands for."""
    if name in held:
        return np.asarray(held[name], np.float32)
    if f"{name}_scales" in held and held[f"{name}_Q4"].ndim == 2:
        rows, scales = held[f"{name}_Q4"].astype(np.float32), held[f"{name}_scales"].astype(np.float32)
        return np.asarray(rows * np.repeat(scales, rows.shape[1] // scales.shape[1], axis=1), np.float32)
    codes, zero, scale = (
        held[f"{name}_{what}"].astype(np.float32) for what in ("quantized", "zero_point", "scale")
    )
    return np.asarray((codes - zero) * scale, np.float32)
