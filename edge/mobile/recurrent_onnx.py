"""The BiLSTM as a float ONNX graph for one sentence of a fixed number of tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge.mobile.weights import Recurrent
from models.emit import Graph, join_directions, linear, lstm, save


def write(network: Recurrent, tokens: int, path: Path) -> Path:
    """Write the graph: ids int32 [1, tokens], right-padded, and lengths int32 [1]; float32 [1, classes] for each head.

    int32, because no provider for phones takes int64.
    """
    graph = Graph("intent")
    ids = graph.input("ids", np.int32, [1, tokens])
    lengths = graph.input("lengths", np.int32, [1])
    steps_first = graph.node("Reshape", [ids, graph.constant("steps", [tokens, 1], np.int64)])
    x = graph.node("Gather", [graph.constant("embedding", network.embedding), steps_first])
    out = lstm(graph, x, [network.forward, network.backward], lengths=lengths)
    first = graph.constant("axes", [0], np.int64)
    seen = out.sequence if network.floor else _lowered(graph, out.sequence, lengths, tokens)
    top = join_directions(graph, graph.node("ReduceMax", [seen, first], keepdims=0), out)
    highest = graph.node("Relu", [top]) if network.floor else top
    # States behind an item's length are zero by the definition of the LSTM node: the sum needs no mask.
    total = join_directions(graph, graph.node("ReduceSum", [out.sequence, first], keepdims=0), out)
    count = graph.node("Max", [graph.node("Cast", [lengths], to=1), graph.constant("least", [1.0])])
    pooled = graph.node("Concat", [highest, graph.node("Div", [total, count])], axis=1)
    for name, head in network.heads.items():
        scores = linear(graph, pooled, head.weight, head.bias, name=f"head.{name}")
        graph.output(scores, name, np.float32, [1, head.bias.shape[0]])
    return save(graph, path)


def _lowered(graph: Graph, sequence: str, lengths: str, tokens: int) -> str:
    """The states, and below every state what is behind the end: the zeros that the LSTM node leaves there would win
    against a maximum below 0, where that has no floor of 0."""
    positions = graph.constant("positions", np.arange(tokens), np.int32)
    behind = graph.node("Cast", [graph.node("GreaterOrEqual", [positions, lengths])], to=1)
    below = graph.node("Mul", [behind, graph.constant("below", [2.0])])
    by_step = graph.node("Reshape", [below, graph.constant("by_step", [tokens, 1, 1, 1], np.int64)])
    return graph.node("Sub", [sequence, by_step])
