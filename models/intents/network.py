"""The network: embedding, one bidirectional LSTM, max (0 at least) and mean over the valid steps, a linear head
per set.

The floor of the maximum is what makes padding free: an LSTM node gives zeros behind an item's end, and zero is
then what the maximum cannot fall below anyway. A mask would cost seven nodes, an eighth of the time of a short
sentence.

`logits` (JAX, for training) and `export` (ONNX, for serving) are the same function, written once each and
compared by the tests; both take right-padded ids [batch, steps] and lengths [batch], and padding has no say.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from models.emit import Graph, LstmWeights, join_directions, linear, lstm, save

Array = Any
"""A JAX array; `Any` because JAX is needed for training only and is not installed where the checks run."""

EMBEDDING_SCALE = 0.3
"""Standard deviation of a new embedding."""


class Lstm(NamedTuple):
    """One direction, gates i, f, g, o: kernel [4 * hidden, features], recurrent [4 * hidden, hidden]."""

    kernel: Array
    recurrent: Array
    bias: Array


class Network(NamedTuple):
    """The parameters. embedding: [tokens, features]; weight: [4 * hidden, classes]; bias: [classes]."""

    embedding: Array
    forward: Lstm
    backward: Lstm
    weight: Array
    bias: Array


class Dropout(NamedTuple):
    """Shares of what training blanks out: whole words, embedding features, pooled features."""

    word: float
    embedding: float
    pooled: float


def init(key: Array, *, tokens: int, classes: int, features: int = 64, hidden: int = 96) -> Network:
    """Draw parameters: uniform LSTM weights within 1/sqrt(hidden), forget gates open, a head near 0."""
    keys = iter(jax.random.split(key, 6))

    def direction() -> Lstm:
        bound = hidden**-0.5
        kernel = jax.random.uniform(next(keys), (4 * hidden, features), minval=-bound, maxval=bound)
        recurrent = jax.random.uniform(next(keys), (4 * hidden, hidden), minval=-bound, maxval=bound)
        return Lstm(kernel, recurrent, jnp.zeros(4 * hidden).at[hidden : 2 * hidden].set(1.0))

    return Network(
        embedding=jax.random.normal(next(keys), (tokens, features)) * EMBEDDING_SCALE,
        forward=direction(),
        backward=direction(),
        weight=jax.random.normal(next(keys), (4 * hidden, classes)) * 0.05,
        bias=jnp.zeros(classes),
    )


def logits(
    network: Network, ids: Array, lengths: Array, rate: Dropout | None = None, key: Array = None
) -> Array:
    """Scores [batch, classes] of right-padded ids [batch, steps]; `rate` and `key` switch dropout on."""
    steps = ids.shape[1]
    valid = (jnp.arange(steps)[:, None] < lengths[None, :])[:, :, None]
    keys = jax.random.split(key, 3) if rate is not None else (None, None, None)
    if rate is not None:
        ids = jnp.where(jax.random.bernoulli(keys[0], rate.word, ids.shape), 1, ids)
    x = network.embedding[ids.T]
    if rate is not None:
        # One mask per item for all its steps: the same features stay blank throughout the sentence.
        x = drop(keys[1], x, rate.embedding, (1, *x.shape[1:]))
    states = jnp.concatenate(
        [unroll(network.forward, x, valid), unroll(network.backward, x, valid, reverse=True)], axis=-1
    )
    highest = jnp.max(jnp.where(valid, states, 0.0), axis=0, initial=0.0)
    mean = jnp.sum(jnp.where(valid, states, 0.0), axis=0) / jnp.maximum(lengths, 1)[:, None]
    pooled = jnp.concatenate([highest, mean], axis=-1)
    if rate is not None:
        pooled = drop(keys[2], pooled, rate.pooled, pooled.shape)
    return pooled @ network.weight + network.bias


def drop(key: Array, x: Array, rate: float, shape: tuple[int, ...]) -> Array:
    """`x` with a share `rate` of it blank and the rest scaled up; `shape` of the mask, 1 where it is shared."""
    return x * jax.random.bernoulli(key, 1 - rate, shape) / (1 - rate)


def unroll(layer: Lstm, x: Array, valid: Array, *, reverse: bool = False) -> Array:
    """States [steps, batch, hidden]; a step that is not valid leaves the state as it was."""
    hidden = layer.recurrent.shape[1]
    projected = x @ layer.kernel.T + layer.bias

    def step(carry: tuple[Array, Array], now: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
        h, c = carry
        gates, here = now
        i, f, g, o = jnp.split(gates + h @ layer.recurrent.T, 4, axis=-1)
        c_new = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h_new = jax.nn.sigmoid(o) * jnp.tanh(c_new)
        h, c = jnp.where(here, h_new, h), jnp.where(here, c_new, c)
        return (h, c), h

    start = jnp.zeros((x.shape[1], hidden))
    _, states = jax.lax.scan(step, (start, start), (projected, valid), reverse=reverse)
    return states


def export(network: Network, heads: Mapping[str, slice], path: Path) -> Path:
    """Write the ONNX file: int64 ids [batch, tokens], lengths [batch]; float32 [batch, classes] for each of `heads`,
    output -> its part of the classes."""
    graph = Graph("intent")
    ids = graph.input("ids", np.int64, ["batch", "tokens"])
    lengths = graph.input("lengths", np.int64, ["batch"])
    # Transposing the ids instead of what is looked up with them moves 64 times less memory.
    steps_first = graph.node("Transpose", [ids], perm=[1, 0])
    x = graph.node("Gather", [graph.constant("embedding", network.embedding), steps_first])
    out = lstm(
        graph,
        x,
        [LstmWeights(*network.forward), LstmWeights(*network.backward)],
        lengths=lengths,
    )
    first = graph.constant("axes", [0], np.int64)
    top = graph.node("ReduceMax", [out.sequence, first], keepdims=0)
    highest = join_directions(graph, graph.node("Relu", [top]), out)
    # States behind an item's length are zero by the definition of the LSTM node: neither needs a mask.
    total = join_directions(graph, graph.node("ReduceSum", [out.sequence, first], keepdims=0), out)
    one = graph.constant("one", 1, np.int64)
    count = graph.node("Cast", [graph.node("Max", [lengths, one])], to=1)
    divisor = graph.node("Unsqueeze", [count, graph.constant("axes", [1], np.int64)])
    mean = graph.node("Div", [total, divisor])
    pooled = graph.node("Concat", [highest, mean], axis=1)
    weight, bias = np.asarray(network.weight), np.asarray(network.bias)
    for name, own in heads.items():
        scores = linear(graph, pooled, weight[:, own], bias[own], name=f"head.{name}")
        graph.output(scores, name, np.float32, ["batch", own.stop - own.start])
    return save(graph, path)
