"""The intent networks with a second head, which tags each token: a BiLSTM for tiny, an encoder for the larger tiers.

What reads the sentence is that of `models.intents.network` and `models.minilm.network`, with the intent's head; here is
what they share. Right-padded ids [batch, steps] and lengths [batch]; padding has no say. `models.slots.export` writes
the same functions as ONNX, and the tests compare the two.
Joint intent and slots after Liu and Lane 2016 ("Attention-Based Recurrent Neural Network Models for Joint Intent
Detection and Slot Filling"), without the attention, and Chen et al. 2019 ("BERT for Joint Intent Classification and
Slot Filling").
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from models.intents import network as lstm
from models.minilm import network as minilm
from models.minilm.network import Linear

Array = Any
"""A JAX array; `Any` because JAX is needed for training only and is not installed where the checks run."""


class Scores(NamedTuple):
    """intents: [batch, intents]; tags: [batch, steps, tags], without meaning behind an item's end."""

    intents: Array
    tags: Array


class Recurrent(NamedTuple):
    """A BiLSTM with the intent's head, and the head [2 * hidden, tags] over its state at each step."""

    body: lstm.Network
    tags: Linear


class Transformer(NamedTuple):
    """An encoder with the intent's head, and the head [features, tags] over each of its states."""

    body: minilm.Network
    tags: Linear


def recurrent(
    network: Recurrent, ids: Array, lengths: Array, rate: lstm.Dropout | None = None, key: Array = None
) -> Scores:
    """Scores of the BiLSTM; `rate` and `key` switch dropout on. Behind an item's end the tags' scores are the bias."""
    body, steps = network.body, ids.shape[1]
    valid = (jnp.arange(steps)[:, None] < lengths[None, :])[:, :, None]
    keys = jax.random.split(key, 4) if rate is not None else (None, None, None, None)
    if rate is not None:
        ids = jnp.where(jax.random.bernoulli(keys[0], rate.word, ids.shape), 1, ids)
    x = body.embedding[ids.T]
    if rate is not None:
        # One mask per item for all its steps, as in `models.intents.network`.
        x = lstm.drop(keys[1], x, rate.embedding, (1, *x.shape[1:]))
    ran = [lstm.unroll(body.forward, x, valid), lstm.unroll(body.backward, x, valid, reverse=True)]
    states = jnp.where(valid, jnp.concatenate(ran, axis=-1), 0.0)
    highest = jnp.max(states, axis=0, initial=0.0)
    mean = jnp.sum(states, axis=0) / jnp.maximum(lengths, 1)[:, None]
    pooled = jnp.concatenate([highest, mean], axis=-1)
    if rate is not None:
        pooled = lstm.drop(keys[2], pooled, rate.pooled, pooled.shape)
        states = lstm.drop(keys[3], states, rate.pooled, (1, *states.shape[1:]))
    tagged = states @ network.tags.weight + network.tags.bias
    return Scores(pooled @ body.weight + body.bias, jnp.swapaxes(tagged, 0, 1))


def transformer(
    network: Transformer, ids: Array, lengths: Array, rate: float = 0.0, key: Array = None
) -> Scores:
    """Scores of the encoder; `rate` and `key` switch dropout on."""
    keys = jax.random.split(key, 3) if rate else (None, None, None)
    states = minilm.encode(network.body.encoder, ids, lengths, rate, keys[0])
    pooled = minilm.pool(states, lengths)
    if rate:
        pooled = lstm.drop(keys[1], pooled, rate, pooled.shape)
        states = lstm.drop(keys[2], states, rate, states.shape)
    head, tags = network.body.head, network.tags
    return Scores(pooled @ head.weight + head.bias, states @ tags.weight + tags.bias)
