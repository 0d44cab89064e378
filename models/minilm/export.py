"""The encoder as ONNX: the same function as `models.minilm.network`, node by node.

Inputs ids int64 [batch, tokens], right-padded, and lengths int64 [batch]; outputs one `logits` [batch, classes] for
each head and `embedding` [batch, features], the mean of the valid states brought to length 1.

Ops of opset 21 only: ONNX Runtime itself joins Gelu and the bias before it when it loads the file. Fused, a layer holds
ONNX Runtime's own operators instead (domain com.microsoft, version 1: `MultiHeadAttention`, `SkipLayerNormalization`,
`BiasGelu`); nothing else can run it. The products stay `MatMul` and the tables `Gather`, and so what quantises those
quantises either file: `Attention` and `EmbedLayerNormalization` would hide them from it.
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, DTypeLike

from models.emit import IR_VERSION, OPSET, Graph, linear, save
from models.minilm.network import MASKED, NORM_EPSILON, Encoder, Layer, Linear, Norm

EMBEDDING = "embedding"

CONTRIB = "com.microsoft"
"""Domain of ONNX Runtime's own operators."""

CONTRIB_VERSION = 1

Attend = Callable[[str, Layer, str], str]
"""(states, layer, name) -> what the heads mixed, side by side, before the output product."""


def export(
    encoder: Encoder, heads: Mapping[str, Linear], path: Path, *, top_k: int = 0, fused: bool = False
) -> Path:
    """Write the file and return its path. heads: output name -> head, such as `logits`.

    top_k: above 0, each position attends to its `top_k` best-scored positions only. fused: with the operators of the
    domain com.microsoft; together with top_k, attention stays in parts, for the fused one knows no threshold. Layers
    that are one object share their tensors. Raises ValueError for a top_k below 0.
    """
    if top_k < 0:
        raise ValueError(f"top_k is {top_k}; give the positions to attend to, or 0 for all of them")
    graph = _EncoderGraph("encoder")
    ids = graph.input("ids", np.int64, ["batch", "tokens"])
    lengths = graph.input("lengths", np.int64, ["batch"])
    steps = graph.node("Gather", [graph.node("Shape", [ids]), graph.constant("one", 1, np.int64)])
    positions = graph.node(
        "Range", [graph.constant("zero", 0, np.int64), steps, graph.constant("one", 1, np.int64)]
    )
    last = graph.constant("axes", [1], np.int64)
    seen = graph.node("Less", [positions, graph.node("Unsqueeze", [lengths, last])])
    attend: Attend
    if fused and not top_k:
        attend = partial(_attend_fused, graph, graph.node("Cast", [lengths], to=onnx.TensorProto.INT32))
    else:
        attend = partial(_attend, graph, _barred(graph, seen), _width(graph, steps, top_k))
    x = _embed(graph, ids, positions, encoder)
    first = {id(layer): number for number, layer in reversed(list(enumerate(encoder.layers)))}
    for layer in encoder.layers:
        x = (_layer_fused if fused else _layer)(graph, x, attend, layer, f"layer{first[id(layer)]}")
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
    return graph.save_fused(path) if fused else save(graph, path)


class _EncoderGraph(Graph):
    """A graph in which the weights of a layer are stored once, however often the layer runs, and which knows the
    operators of ONNX Runtime."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._stored: set[str] = set()
        self._types: list[Any] = []

    def constant(self, name: str, value: ArrayLike, dtype: DTypeLike = np.float32) -> str:
        if name in self._stored:
            return name
        if name.startswith("layer"):
            self._stored.add(name)
        return super().constant(name, value, dtype)

    def contrib(self, op: str, inputs: list[str], features: int, **attributes: Any) -> str:
        """Append a node of ONNX Runtime's that gives [batch, tokens, features]."""
        value = self.node(op, inputs, domain=CONTRIB, **attributes)
        # ONNX infers no shape behind a domain that it does not know, and quantisers ask for the type.
        self._types.append(
            onnx.helper.make_tensor_value_info(value, onnx.TensorProto.FLOAT, ["batch", "tokens", features])
        )
        return value

    def save_fused(self, path: Path) -> Path:
        """As `models.emit.save`, for a graph with nodes of both domains."""
        model = onnx.helper.make_model(
            onnx.helper.make_graph(
                self.nodes, self.name, self.inputs, self.outputs, self.initializers, value_info=self._types
            ),
            producer_name="foremesh",
            ir_version=IR_VERSION,
            opset_imports=[
                onnx.helper.make_opsetid("", OPSET),
                onnx.helper.make_opsetid(CONTRIB, CONTRIB_VERSION),
            ],
        )
        onnx.checker.check_model(model, full_check=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save_model(model, str(path))
        return path


def _barred(graph: Graph, seen: str) -> str:
    """[batch, 1, 1, tokens]: added to the scores of every head and every asking position."""
    return graph.node(
        "Where",
        [
            graph.node("Unsqueeze", [seen, graph.constant("axes", [1, 2], np.int64)]),
            graph.constant("open", 0.0),
            graph.constant("masked", MASKED),
        ],
    )


def _width(graph: Graph, steps: str, top_k: int) -> str:
    """How many positions are attended to, [1]: `top_k`, or all where there are fewer; nothing where top_k is 0."""
    if not top_k:
        return ""
    there = graph.node("Unsqueeze", [steps, graph.constant("axes", [0], np.int64)])
    return graph.node("Min", [there, graph.constant("top_k", [top_k], np.int64)])


def _embed(graph: Graph, ids: str, positions: str, encoder: Encoder) -> str:
    x = graph.node(
        "Add",
        [
            graph.node("Gather", [graph.constant("tokens", encoder.tokens), ids]),
            graph.node("Gather", [graph.constant("positions", encoder.positions), positions]),
        ],
    )
    return _normalise(graph, x, encoder.norm, "norm")


def _layer(graph: Graph, x: str, attend: Attend, layer: Layer, name: str) -> str:
    output = _output(layer)
    mixed = linear(
        graph, attend(x, layer, f"{name}.attention"), output.weight, output.bias, name=f"{name}.attention.output"
    )  # fmt: skip
    x = _normalise(graph, graph.node("Add", [x, mixed]), layer.attention_norm, f"{name}.attention_norm")
    up = graph.node("Gelu", [linear(graph, x, layer.up.weight, layer.up.bias, name=f"{name}.up")])
    down = linear(graph, up, layer.down.weight, layer.down.bias, name=f"{name}.down")
    return _normalise(graph, graph.node("Add", [x, down]), layer.output_norm, f"{name}.output_norm")


def _layer_fused(graph: _EncoderGraph, x: str, attend: Attend, layer: Layer, name: str) -> str:
    def skip(x: str, mixed: str, part: Linear, norm: Norm, what: str, normed: str) -> str:
        product = linear(graph, mixed, part.weight, name=f"{name}.{what}")
        bias = graph.constant(f"{name}.{what}.bias", part.bias)
        inputs = [x, product, *_norm(graph, norm, f"{name}.{normed}"), bias]
        features = int(part.weight.shape[1])
        return graph.contrib("SkipLayerNormalization", inputs, features, epsilon=NORM_EPSILON)

    mixed = attend(x, layer, f"{name}.attention")
    x = skip(x, mixed, _output(layer), layer.attention_norm, "attention.output", "attention_norm")
    product = linear(graph, x, layer.up.weight, name=f"{name}.up")
    bias = graph.constant(f"{name}.up.bias", layer.up.bias)
    up = graph.contrib("BiasGelu", [product, bias], int(layer.up.weight.shape[1]))
    return skip(x, up, layer.down, layer.output_norm, "down", "output_norm")


def _attend(graph: Graph, barred: str, width: str, x: str, layer: Layer, name: str) -> str:
    heads, size = (int(n) for n in layer.query.weight.shape[1:])
    three = _three(layer)
    product = linear(graph, x, three.weight, three.bias, name=f"{name}.input")
    query, key, value = graph.nodes_out("Split", [product], 3, axis=-1, num_outputs=3)
    by_head = graph.constant("by_head", [0, 0, heads, size], np.int64)

    def turned(what: str, order: list[int]) -> str:
        return graph.node("Transpose", [graph.node("Reshape", [what, by_head])], perm=order)

    scores = graph.node("MatMul", [turned(query, [0, 2, 1, 3]), turned(key, [0, 2, 3, 1])])
    scores = graph.node("Add", [scores, barred])
    if width:
        scores = _best(graph, scores, width)
    weights = graph.node("Softmax", [scores], axis=-1)
    mixed = graph.node("MatMul", [weights, turned(value, [0, 2, 1, 3])])
    joined = graph.constant("joined", [0, 0, heads * size], np.int64)
    return graph.node("Reshape", [graph.node("Transpose", [mixed], perm=[0, 2, 1, 3]), joined])


def _best(graph: Graph, scores: str, width: str) -> str:
    """The scores with all but the `width` best of each asking position barred."""
    best, _ = graph.nodes_out("TopK", [scores, width], 2, axis=-1, sorted=0)
    least = graph.node("ReduceMin", [best, graph.constant("axes", [-1], np.int64)], keepdims=1)
    kept = graph.node("GreaterOrEqual", [scores, least])
    return graph.node("Where", [kept, scores, graph.constant("masked", MASKED)])


def _attend_fused(graph: _EncoderGraph, lengths: str, x: str, layer: Layer, name: str) -> str:
    heads, size = (int(n) for n in layer.query.weight.shape[1:])
    three = _three(layer)
    product = linear(graph, x, three.weight, name=f"{name}.input")
    bias = graph.constant(f"{name}.input.bias", three.bias)
    return graph.contrib(
        "MultiHeadAttention",
        [*graph.nodes_out("Split", [product], 3, axis=-1, num_outputs=3), bias, lengths],
        heads * size,
        num_heads=heads,
        scale=1.0,
        mask_filter_value=MASKED,
    )


def _three(layer: Layer) -> Linear:
    """Query, key and value side by side, [features, 3 * heads * size]: one product for all three, so that what is
    quantised as it runs is quantised once. The scale of the scores is in the query: one node less, and nothing lost."""
    features, heads, size = (int(n) for n in layer.query.weight.shape)
    parts = ((layer.query, size**-0.5), (layer.key, 1.0), (layer.value, 1.0))
    return Linear(
        np.concatenate([np.asarray(p.weight).reshape(features, heads * size) * s for p, s in parts], axis=1),
        np.concatenate([np.asarray(p.bias).reshape(heads * size) * s for p, s in parts]),
    )


def _output(layer: Layer) -> Linear:
    """The product behind the heads, [heads * size, features]."""
    heads, size, features = (int(n) for n in layer.output.weight.shape)
    return Linear(np.asarray(layer.output.weight).reshape(heads * size, features), layer.output.bias)


def _normalise(graph: Graph, x: str, norm: Norm, name: str) -> str:
    return graph.node("LayerNormalization", [x, *_norm(graph, norm, name)], axis=-1, epsilon=NORM_EPSILON)


def _norm(graph: Graph, norm: Norm, name: str) -> list[str]:
    return [graph.constant(f"{name}.scale", norm.scale), graph.constant(f"{name}.bias", norm.bias)]


def _pool(graph: Graph, states: str, seen: str, lengths: str) -> str:
    """The mean of the valid states; what is behind an item's end is blanked before it is summed."""
    steps = graph.constant("axes", [1], np.int64)
    mask = graph.node("Unsqueeze", [seen, graph.constant("axes", [2], np.int64)])
    kept = graph.node("Where", [mask, states, graph.constant("nothing", 0.0)])
    total = graph.node("ReduceSum", [kept, steps], keepdims=0)
    count = graph.node("Cast", [graph.node("Max", [lengths, graph.constant("one", 1, np.int64)])], to=1)
    return graph.node("Div", [total, graph.node("Unsqueeze", [count, steps])])
