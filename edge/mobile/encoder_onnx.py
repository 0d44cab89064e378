"""The transformer as a float ONNX graph in the operations that NNAPI has, for one sentence of a fixed number of tokens.

NNAPI has neither LayerNormalization nor Gelu, comparisons or sums over an axis, and each node that it lacks cuts the
graph into parts that are carried to the accelerator and back. So normalisation is written out, Gelu is written with the
rational approximation of erf below, masks are arithmetic, and sums are products. What Core ML lacks of NNAPI's
operations (Abs, Min) is left out too. Linear layers are 2-D and products of two computed values are 4-D: the shapes
that ONNX Runtime's NNAPI provider takes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge.mobile.weights import EMBEDDING, Floats, Transformer
from models.emit import Graph, linear, save

if TYPE_CHECKING:
    from models.minilm.network import Layer, Linear, Norm

ERFC = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
ERFC_P = 0.3275911
"""erfc(z) = (a1 t + ... + a5 t^5) exp(-z^2), t = 1 / (1 + p z), for z >= 0, to 1.5e-7: Abramowitz and Stegun 1964,
7.1.26."""

MASKED = -1e4
"""Added to the score of a position behind the end: exp makes an exact 0 of it, as of -1e9, and FP16 holds it."""


def write(network: Transformer, tokens: int, path: Path) -> Path:
    """Write the graph: ids int32 [1, tokens], right-padded, and lengths int32 [1]; float32 [1, classes] for each head
    and `embedding` [1, features], the mean of the valid states brought to length 1.

    Raises ValueError when the encoder has fewer positions than `tokens`.
    """
    from models.minilm.network import NORM_EPSILON  # noqa: PLC0415 (JAX is slow to import, and may be missing)

    encoder = network.encoder
    if tokens > encoder.positions.shape[0]:
        raise ValueError(
            f"{tokens} tokens are more than the {encoder.positions.shape[0]} positions of the encoder"
        )
    graph = _Written(tokens, NORM_EPSILON)
    ids = graph.input("ids", np.int32, [1, tokens])
    lengths = graph.node("Cast", [graph.input("lengths", np.int32, [1])], to=1)
    seen = graph.seen(lengths)
    barred = graph.times(graph.plus(seen, -1.0), -MASKED)
    looked_up = graph.node("Gather", [graph.constant("tokens", encoder.tokens), graph.shaped(ids, [tokens])])
    x = graph.node("Add", [looked_up, graph.constant("positions", encoder.positions[:tokens])])
    x = graph.normalised(x, encoder.norm, "norm")
    for number, layer in enumerate(encoder.layers):
        name = f"layer{number}"
        mixed = graph.attention(x, barred, layer, f"{name}.attention")
        x = graph.normalised(graph.node("Add", [x, mixed]), layer.attention_norm, f"{name}.attention_norm")
        up = graph.gelu(linear(graph, x, layer.up.weight, layer.up.bias, name=f"{name}.up"))
        down = linear(graph, up, layer.down.weight, layer.down.bias, name=f"{name}.down")
        x = graph.normalised(graph.node("Add", [x, down]), layer.output_norm, f"{name}.output_norm")
    features = int(encoder.tokens.shape[1])
    pooled = graph.pooled(x, seen, lengths, features)
    for name, head in network.heads.items():
        scores = linear(graph, pooled, head.weight, head.bias, name=f"head.{name}")
        graph.output(scores, name, np.float32, [1, head.bias.shape[0]])
    graph.output(graph.unit(pooled, features), EMBEDDING, np.float32, [1, features])
    return save(graph, path)


class _Written(Graph):
    """A graph with the encoder's parts written out in simple operations; values are [tokens, features]."""

    def __init__(self, tokens: int, epsilon: float) -> None:
        super().__init__("encoder")
        self.tokens = tokens
        self.epsilon = epsilon

    def number(self, value: float) -> str:
        return self.constant("number", [value])

    def plus(self, x: str, value: float) -> str:
        return self.node("Add", [x, self.number(value)])

    def times(self, x: str, value: float) -> str:
        return self.node("Mul", [x, self.number(value)])

    def shaped(self, x: str, shape: list[int]) -> str:
        return self.node("Reshape", [x, self.constant("shape", shape, np.int64)])

    def mean(self, x: str) -> str:
        return self.node("ReduceMean", [x, self.constant("axes", [1], np.int64)], keepdims=1)

    def seen(self, lengths: str) -> str:
        """1 where a token is, 0 behind the end: [tokens]."""
        positions = self.constant("position", np.arange(self.tokens))
        ahead = self.node("Relu", [self.node("Sub", [lengths, positions])])
        # The smaller of it and 1, without Min, which Core ML lacks.
        return self.node(
            "Sub", [self.number(1.0), self.node("Relu", [self.node("Sub", [self.number(1.0), ahead])])]
        )

    def normalised(self, x: str, norm: Norm, name: str) -> str:
        centred = self.node("Sub", [x, self.mean(x)])
        variance = self.plus(self.mean(self.node("Mul", [centred, centred])), self.epsilon)
        whitened = self.node("Div", [centred, self.node("Sqrt", [variance])])
        scaled = self.node("Mul", [whitened, self.constant(f"{name}.scale", norm.scale)])
        return self.node("Add", [scaled, self.constant(f"{name}.bias", norm.bias)])

    def gelu(self, x: str) -> str:
        """x * P(X <= x) = relu(x) - |x| * erfc(|x| / sqrt(2)) / 2, exact but for erfc."""
        above = self.node("Relu", [x])
        # |x|, without Abs, which Core ML lacks: exact, for x is subtracted from 2 x or from 0.
        size = self.node("Sub", [self.node("Add", [above, above]), x])
        t = self.node("Div", [self.number(1.0), self.plus(self.times(size, ERFC_P / 2**0.5), 1.0)])
        sum_ = self.number(ERFC[-1])
        for factor in reversed(ERFC[:-1]):
            sum_ = self.plus(self.node("Mul", [sum_, t]), factor)
        bell = self.node("Exp", [self.times(self.node("Mul", [x, x]), -0.5)])
        erfc = self.node("Mul", [self.node("Mul", [sum_, t]), bell])
        less = self.node("Mul", [self.times(size, 0.5), erfc])
        return self.node("Sub", [above, less])

    def attention(self, x: str, barred: str, layer: Layer, name: str) -> str:
        features, heads, size = (int(n) for n in layer.query.weight.shape)

        def by_head(part: Linear, what: str, order: list[int], scale: float = 1.0) -> str:
            weight: Floats = np.asarray(part.weight).reshape(features, heads * size) * np.float32(scale)
            bias: Floats = np.asarray(part.bias).reshape(heads * size) * np.float32(scale)
            flat = linear(self, x, weight, bias, name=f"{name}.{what}")
            return self.node("Transpose", [self.shaped(flat, [1, self.tokens, heads, size])], perm=order)

        query = by_head(layer.query, "query", [0, 2, 1, 3], size**-0.5)
        key = by_head(layer.key, "key", [0, 2, 3, 1])
        value = by_head(layer.value, "value", [0, 2, 1, 3])
        scores = self.node("Add", [self.node("MatMul", [query, key]), barred])
        mixed = self.node("MatMul", [self.node("Softmax", [scores], axis=-1), value])
        flat = self.shaped(self.node("Transpose", [mixed], perm=[0, 2, 1, 3]), [self.tokens, heads * size])
        out = np.asarray(layer.output.weight).reshape(heads * size, features)
        return linear(self, flat, out, layer.output.bias, name=f"{name}.output")

    def pooled(self, x: str, seen: str, lengths: str, features: int) -> str:
        """The mean of the valid states, [1, features], as one product: NNAPI has no sum over an axis."""
        share = self.node("Div", [seen, self.node("Max", [lengths, self.number(1.0)])])
        states = self.shaped(x, [1, 1, self.tokens, features])
        total = self.node("MatMul", [self.shaped(share, [1, 1, 1, self.tokens]), states])
        return self.shaped(total, [1, features])

    def unit(self, x: str, features: int) -> str:
        """Brought to length 1."""
        square = self.times(self.mean(self.node("Mul", [x, x])), float(features))
        return self.node("Div", [x, self.node("Max", [self.node("Sqrt", [square]), self.number(1e-12)])])
