"""An entry's own graph with every dimension fixed: one sentence of so many tokens."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnxruntime.tools.onnx_model_utils import fix_output_shapes, make_dim_param_fixed


def write(model: Path, tokens: int, out: Path) -> Path:
    """Write `model` with its dimensions `batch` as 1 and `tokens` as given; nodes and weights stay as they are.

    Raises ValueError when an input or output still has a free dimension then.
    """
    graph = onnx.load(str(model))
    make_dim_param_fixed(graph.graph, "batch", 1)
    make_dim_param_fixed(graph.graph, "tokens", tokens)
    fix_output_shapes(graph)
    for value in (*graph.graph.input, *graph.graph.output):
        if not all(dim.HasField("dim_value") for dim in value.type.tensor_type.shape.dim):
            raise ValueError(
                f"{model}: {value.name!r} has a dimension that is neither `batch` nor `tokens`; name those two in the "
                "graph's inputs"
            )
    onnx.save(graph, str(out))
    return out
