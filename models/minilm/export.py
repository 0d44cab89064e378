"""The encoder as ONNX: the same function as `models.minilm.network`, node by node.

Inputs ids int64 [batch, tokens], right-padded, and lengths int64 [batch]; outputs one `logits` [batch, classes] for
each head and `embedding` [batch, features], the mean of the valid states brought to length 1. Ops of opset 21 only:
ONNX Runtime fuses Gelu, bias and normalisation by itself when it loads the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from models.emit import Graph, linear, save
from models.minilm.network import MASKED, NORM_EPSILON, Encoder, Layer, Linear, Norm

EMBEDDING = "embedding"


def export(encoder: Encoder, heads: Mapping[str, Linear], path: Path) -> Path:
    """Write the file and return its path. heads: output name -> head, such as `logits`."""
    graph = Graph("encoder")
    ids = graph.input("ids", np.int64, ["batch", "tokens"])
    lengths = graph.input("lengths", np.int64, ["batch"])
    steps = graph.node("Gather", [graph.node("Shape", [ids]), graph.constant("one", 1, np.int64)])
    positions = graph.node(
        "Range", [graph.constant("zero", 0, np.int64), steps, graph.constant("one", 1, np.int64)]
    )
    last = graph.constant("axes", [1], np.int64)
    seen = graph.node("Less", [positions, graph.node("Unsqueeze", [lengths, last])])
    # [batch, 1, 1, tokens]: added to the scores of every head and every asking position.
    barred = graph.node(
        "Where",
        [
            graph.node("Unsqueeze", [seen, graph.constant("axes", [1, 2], np.int64)]),
            graph.constant("open", 0.0),
            graph.constant("masked", MASKED),
        ],
    )
    x = graph.node(
        "Add",
        [
            graph.node("Gather", [graph.constant("tokens", encoder.tokens), ids]),
            graph.node("Gather", [graph.constant("positions", encoder.positions), positions]),
        ],
    )
    x = _normalise(graph, x, encoder.norm, "norm")
    for number, layer in enumerate(encoder.layers):
        x = _layer(graph, x, barred, layer, f"layer{number}")
    pooled = _pool(graph, x, seen, lengths)
    for name, head in heads.items():
        scores = linear(graph, pooled, head.weight, head.bias, name=f"head.{name}")
        graph.output(scores, name, np.float32, ["batch", int(head.weight.shape[1])])
    length = graph.node("ReduceL2", [pooled, last], keepdims=1)
    tiny = graph.constant("tiny", 1e-12)
    graph.output(
        graph.node("Div", [pooled, graph.node("Max", [length, tiny])]),
        EMBEDDING,
        np.float32,
        ["batch", int(encoder.tokens.shape[1])],
    )
    return save(graph, path)


def _layer(graph: Graph, x: str, barred: str, layer: Layer, name: str) -> str:
    mixed = _attend(graph, x, barred, layer, f"{name}.attention")
    x = _normalise(graph, graph.node("Add", [x, mixed]), layer.attention_norm, f"{name}.attention_norm")
    up = graph.node("Gelu", [linear(graph, x, layer.up.weight, layer.up.bias, name=f"{name}.up")])
    down = linear(graph, up, layer.down.weight, layer.down.bias, name=f"{name}.down")
    return _normalise(graph, graph.node("Add", [x, down]), layer.output_norm, f"{name}.output_norm")


def _attend(graph: Graph, x: str, barred: str, layer: Layer, name: str) -> str:
    features, heads, size = (int(n) for n in layer.query.weight.shape)
    # One product for all three: what is quantised as it runs is then quantised once. The scale of the scores is in the
    # query's weights: one node less, and nothing lost.
    scales = (size**-0.5, 1.0, 1.0)
    parts = (layer.query, layer.key, layer.value)
    weight = np.concatenate(
        [
            np.asarray(p.weight).reshape(features, heads * size) * s
            for p, s in zip(parts, scales, strict=True)
        ],
        axis=1,
    )
    bias = np.concatenate(
        [np.asarray(p.bias).reshape(heads * size) * s for p, s in zip(parts, scales, strict=True)]
    )
    three = linear(graph, x, weight, bias, name=f"{name}.input")
    query, key, value = graph.nodes_out("Split", [three], 3, axis=-1, num_outputs=3)
    by_head = graph.constant("by_head", [0, 0, heads, size], np.int64)

    def turned(what: str, order: list[int]) -> str:
        return graph.node("Transpose", [graph.node("Reshape", [what, by_head])], perm=order)

    scores = graph.node("MatMul", [turned(query, [0, 2, 1, 3]), turned(key, [0, 2, 3, 1])])
    weights = graph.node("Softmax", [graph.node("Add", [scores, barred])], axis=-1)
    mixed = graph.node("MatMul", [weights, turned(value, [0, 2, 1, 3])])
    joined = graph.constant("joined", [0, 0, heads * size], np.int64)
    flat = graph.node("Reshape", [graph.node("Transpose", [mixed], perm=[0, 2, 1, 3]), joined])
    out = np.asarray(layer.output.weight).reshape(heads * size, features)
    return linear(graph, flat, out, layer.output.bias, name=f"{name}.output")


def _normalise(graph: Graph, x: str, norm: Norm, name: str) -> str:
    def vector(what: str, value: ArrayLike) -> str:
        return graph.constant(f"{name}.{what}", value)

    return graph.node(
        "LayerNormalization",
        [x, vector("scale", norm.scale), vector("bias", norm.bias)],
        axis=-1,
        epsilon=NORM_EPSILON,
    )


def _pool(graph: Graph, states: str, seen: str, lengths: str) -> str:
    """The mean of the valid states; what is behind an item's end is blanked before it is summed."""
    steps = graph.constant("axes", [1], np.int64)
    mask = graph.node("Unsqueeze", [seen, graph.constant("axes", [2], np.int64)])
    kept = graph.node("Where", [mask, states, graph.constant("nothing", 0.0)])
    total = graph.node("ReduceSum", [kept, steps], keepdims=0)
    count = graph.node("Cast", [graph.node("Max", [lengths, graph.constant("one", 1, np.int64)])], to=1)
    return graph.node("Div", [total, graph.node("Unsqueeze", [count, steps])])
