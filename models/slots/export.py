"""The networks of `models.slots.network` as ONNX: the intent networks' files, with the head for the tags grafted on.

Inputs ids int64 [batch, tokens], right-padded, and lengths int64 [batch]; outputs `logits` float32 [batch, intents] and
`tags` float32 [batch, tokens, tags]. What the intent networks' own export does better, these files do better too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto
from onnx.helper import make_node, make_tensor_value_info
from onnx.numpy_helper import from_array

from models.intents import network as lstm
from models.minilm import export as minilm
from models.minilm.network import Linear
from models.slots.network import Recurrent, Transformer

INTENTS, TAGS = "logits", "tags"
"""The outputs."""

STATES = "states"
"""[batch, tokens, features]: what the head for the tags reads."""


def recurrent(network: Recurrent, path: Path) -> Path:
    """Write the BiLSTM and return the path."""
    intents, (width, _) = np.shape(network.body.bias)[0], np.shape(network.tags.weight)
    model = onnx.load(str(lstm.export(network.body, {INTENTS: slice(0, intents)}, path)))
    sequence = next(node.output[0] for node in model.graph.node if node.op_type == "LSTM")
    model.graph.initializer.append(from_array(np.array([0, 0, width], np.int64), "side_by_side"))
    # [steps, directions, batch, hidden] to [batch, steps, directions * hidden].
    model.graph.node.extend(
        [
            make_node("Transpose", [sequence], ["by_item"], perm=[2, 0, 1, 3]),
            make_node("Reshape", ["by_item", "side_by_side"], [STATES]),
        ]
    )
    return _graft(model, STATES, network.tags, path)


def transformer(network: Transformer, path: Path) -> Path:
    """Write the encoder and return the path."""
    model = onnx.load(str(minilm.export(network.body.encoder, {INTENTS: network.body.head}, path)))
    _leave_out(model.graph, minilm.EMBEDDING)
    states = [node.output[0] for node in model.graph.node if node.op_type == "LayerNormalization"][-1]
    return _graft(model, states, network.tags, path)


def _leave_out(graph: Any, output: str) -> None:
    """Take an output away, with the nodes and constants that nothing else needs."""
    outputs = [value for value in graph.output if value.name != output]
    wanted = {value.name for value in outputs}
    nodes: list[Any] = []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            wanted |= set(node.input)
            nodes.insert(0, node)
    initializers = [value for value in graph.initializer if value.name in wanted]
    for held, kept in ((graph.output, outputs), (graph.node, nodes), (graph.initializer, initializers)):
        del held[:]
        held.extend(kept)


def _graft(model: Any, states: str, head: Linear, path: Path) -> Path:
    name, width = f"head.{TAGS}", np.shape(head.bias)[0]
    for what, value in (("weight", head.weight), ("bias", head.bias)):
        model.graph.initializer.append(from_array(np.asarray(value, np.float32), f"{name}.{what}"))
    model.graph.node.extend(
        [
            make_node("MatMul", [states, f"{name}.weight"], [f"{name}.product"]),
            make_node("Add", [f"{name}.product", f"{name}.bias"], [TAGS]),
        ]
    )
    shape = ["batch", "tokens", width]
    model.graph.output.append(make_tensor_value_info(TAGS, TensorProto.FLOAT, shape))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))
    return path
