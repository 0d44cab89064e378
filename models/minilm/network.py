"""The transformer of the larger tiers in JAX: BERT's encoder, sizes read off its parameters, and linear heads.

`encode` and `logits` are what training differentiates; `models.minilm.export` writes the same function as ONNX, and
the tests compare the two. Right-padded ids [batch, steps] and lengths [batch]; padding has no say.
Layout after Devlin et al. 2019 (post-norm), weights of sentence-transformers/all-MiniLM-L6-v2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = Any
"""A JAX array; `Any` because JAX is needed for training only and is not installed where the checks run."""

NORM_EPSILON = 1e-12
MASKED = -1e9
"""Score of a position that may not be attended to: finite, so that a row of nothing but padding stays a number."""


class Linear(NamedTuple):
    """weight: [inputs, outputs]; bias: [outputs]."""

    weight: Array
    bias: Array


class Norm(NamedTuple):
    """Layer normalisation: scale and bias, [features] each."""

    scale: Array
    bias: Array


class Layer(NamedTuple):
    """One layer. query, key, value: [features, heads, size of a head]; output: [heads, size, features]. What is pruned
    is gone from the shapes: heads from the middle axis, units of the feed-forward from `up` and `down`."""

    query: Linear
    key: Linear
    value: Linear
    output: Linear
    attention_norm: Norm
    up: Linear
    down: Linear
    output_norm: Norm


class Encoder(NamedTuple):
    """tokens: [vocabulary, features]; positions: [longest, features], the type embedding folded in."""

    tokens: Array
    positions: Array
    norm: Norm
    layers: tuple[Layer, ...]


class Network(NamedTuple):
    """An encoder and one linear head [features, all classes] over the mean of its states."""

    encoder: Encoder
    head: Linear


def from_file(arrays: Mapping[str, Array], *, longest: int, heads: int = 12) -> Encoder:
    """The encoder of a BERT file, its positions cut to `longest` tokens."""
    features = arrays["embeddings.word_embeddings.weight"].shape[1]
    size = features // heads

    def linear(name: str) -> Linear:
        return Linear(jnp.asarray(arrays[f"{name}.weight"].T), jnp.asarray(arrays[f"{name}.bias"]))

    def norm(name: str) -> Norm:
        return Norm(jnp.asarray(arrays[f"{name}.weight"]), jnp.asarray(arrays[f"{name}.bias"]))

    def split(name: str) -> Linear:
        whole = linear(name)
        return Linear(whole.weight.reshape(features, heads, size), whole.bias.reshape(heads, size))

    layers: list[Layer] = []
    while f"encoder.layer.{len(layers)}.output.dense.weight" in arrays:
        at = f"encoder.layer.{len(layers)}"
        out = linear(f"{at}.attention.output.dense")
        layers.append(
            Layer(
                query=split(f"{at}.attention.self.query"),
                key=split(f"{at}.attention.self.key"),
                value=split(f"{at}.attention.self.value"),
                output=Linear(out.weight.reshape(heads, size, features), out.bias),
                attention_norm=norm(f"{at}.attention.output.LayerNorm"),
                up=linear(f"{at}.intermediate.dense"),
                down=linear(f"{at}.output.dense"),
                output_norm=norm(f"{at}.output.LayerNorm"),
            )
        )
    positions = arrays["embeddings.position_embeddings.weight"][:longest]
    return Encoder(
        tokens=jnp.asarray(arrays["embeddings.word_embeddings.weight"]),
        positions=jnp.asarray(positions + arrays["embeddings.token_type_embeddings.weight"][0]),
        norm=norm("embeddings.LayerNorm"),
        layers=tuple(layers),
    )


def encode(
    encoder: Encoder, ids: Array, lengths: Array, rate: float = 0.0, key: Array = None, *, top_k: int = 0
) -> Array:
    """States [batch, steps, features]. `rate` and `key` switch dropout on; `top_k` above 0 lets each position attend
    to its `top_k` best-scored positions only."""
    steps = ids.shape[1]
    drop = _Dropout(rate, key)
    seen = jnp.arange(steps)[None, :] < lengths[:, None]
    x = drop(normalise(encoder.tokens[ids] + encoder.positions[:steps], encoder.norm))
    for layer in encoder.layers:
        x = normalise(x + drop(_attend(layer, x, seen, drop, top_k)), layer.attention_norm)
        up = jax.nn.gelu(x @ layer.up.weight + layer.up.bias, approximate=False)
        x = normalise(x + drop(up @ layer.down.weight + layer.down.bias), layer.output_norm)
    return x


def pool(states: Array, lengths: Array) -> Array:
    """The mean of the valid states, [batch, features]: the sentence's vector, before it is brought to length 1."""
    seen = (jnp.arange(states.shape[1])[None, :] < lengths[:, None])[:, :, None]
    return jnp.sum(jnp.where(seen, states, 0.0), axis=1) / jnp.maximum(lengths, 1)[:, None]


def logits(
    network: Network, ids: Array, lengths: Array, rate: float = 0.0, key: Array = None, *, top_k: int = 0
) -> Array:
    """Scores [batch, all classes]."""
    keys = jax.random.split(key) if rate else (None, None)
    pooled = pool(encode(network.encoder, ids, lengths, rate, keys[0], top_k=top_k), lengths)
    return _Dropout(rate, keys[1])(pooled) @ network.head.weight + network.head.bias


def head(key: Array, features: int, classes: int) -> Linear:
    """A new head, near zero."""
    return Linear(jax.random.normal(key, (features, classes)) * 0.02, jnp.zeros(classes))


def normalise(x: Array, norm: Norm) -> Array:
    mean = x.mean(axis=-1, keepdims=True)
    centred = x - mean
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + NORM_EPSILON) * norm.scale + norm.bias


def _attend(layer: Layer, x: Array, seen: Array, drop: _Dropout, top_k: int) -> Array:
    query, key, value = (
        jnp.einsum("btf,fhs->bhts", x, part.weight) + part.bias[None, :, None, :]
        for part in (layer.query, layer.key, layer.value)
    )
    scores = jnp.einsum("bhqs,bhks->bhqk", query, key) * query.shape[-1] ** -0.5
    scores = jnp.where(seen[:, None, None, :], scores, MASKED)
    if 0 < top_k < x.shape[1]:
        kept = jax.lax.top_k(scores, top_k)[0][..., -1:]
        scores = jnp.where(scores >= kept, scores, MASKED)
    weights = drop(jax.nn.softmax(scores, axis=-1))
    mixed = jnp.einsum("bhqk,bhks->bqhs", weights, value)
    return jnp.einsum("bqhs,hsf->bqf", mixed, layer.output.weight) + layer.output.bias


class _Dropout:
    """Blanks a share of what it is given, each time by another key; does nothing at rate 0."""

    def __init__(self, rate: float, key: Array) -> None:
        self._rate = rate
        self._key = key

    def __call__(self, x: Array) -> Array:
        if not self._rate:
            return x
        self._key, now = jax.random.split(self._key)
        return x * jax.random.bernoulli(now, 1 - self._rate, x.shape) / (1 - self._rate)


def parameters(tree: Any) -> int:
    """How many numbers a tree of arrays holds, an array that occurs several times counted once."""
    distinct = {id(leaf): leaf for leaf in jax.tree.leaves(tree)}
    return sum(int(np.prod(leaf.shape)) for leaf in distinct.values())


def sizes(encoder: Encoder) -> dict[str, Any]:
    """What a card tells of an encoder: layers, features, heads and units by layer, vocabulary, parameters."""
    return {
        "layers": len(encoder.layers),
        "features": int(encoder.tokens.shape[1]),
        "heads": [int(layer.query.weight.shape[1]) for layer in encoder.layers],
        "units": [int(layer.up.weight.shape[1]) for layer in encoder.layers],
        "vocabulary": int(encoder.tokens.shape[0]),
        "parameters": parameters(encoder),
    }
