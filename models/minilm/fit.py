"""The encoder as `models.fit` trains it: its head, its dropout and its two rates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import optax

from models import distil
from models.fit import Course, Network
from models.minilm import network as minilm
from models.minilm.recipe import Recipe

STEP_SIZES = (8, 12, 16, 20, 24, 32, 48, 64, 96, 128)
"""Padded lengths of the batches: each is compiled once."""


def start(recipe: Recipe, encoder: minilm.Encoder, classes: int) -> minilm.Network:
    """The encoder under a new head."""
    key = jax.random.key(recipe.seed, impl="rbg")
    return minilm.Network(encoder, minilm.head(key, int(encoder.tokens.shape[1]), classes))


def network(recipe: Recipe, begin: minilm.Network) -> Network:
    """What is trained, and how.

    The table of tokens stays as it was: it is half of the parameters, few of its rows are met in a training set, and a
    row that is moved stops to fit the ones that are not.
    """

    def scores(trained: minilm.Network, ids: Any, lengths: Any, key: Any) -> Any:
        return minilm.logits(still(trained), ids, lengths, recipe.dropout if key is not None else 0.0, key)

    return Network(begin, scores, lambda steps: two_rates(recipe, steps, named), STEP_SIZES)


def still(trained: minilm.Network) -> minilm.Network:
    """The same network, whose table of tokens nothing moves."""
    tokens = jax.lax.stop_gradient(trained.encoder.tokens)
    return trained._replace(encoder=trained.encoder._replace(tokens=tokens))


def named(trained: minilm.Network) -> minilm.Network:
    """What moves each of the parameters: `encoder`, `head` or, for those that stay, `tokens`."""
    encoder = jax.tree.map(lambda _: "encoder", trained.encoder)._replace(tokens="tokens")
    return minilm.Network(encoder, jax.tree.map(lambda _: "head", trained.head))


def two_rates(recipe: Recipe, steps: int, parts: Callable[[Any], Any]) -> Any:
    """AdamW: one rate for the encoder, another for its new heads, none for the table of tokens. parts: parameters ->
    the same tree of names, see `named`."""

    def adamw(rate: float) -> Any:
        warm = max(1, int(steps * recipe.warm))
        schedule = optax.warmup_cosine_decay_schedule(0.0, rate, warm, steps, rate * 0.01)
        return optax.adamw(schedule, weight_decay=recipe.weight_decay)

    each = {"encoder": adamw(recipe.rate), "head": adamw(recipe.head_rate), "tokens": optax.set_to_zero()}
    return optax.chain(optax.clip_by_global_norm(1.0), optax.multi_transform(each, parts))


def course(recipe: Recipe) -> Course:
    """The epochs and losses of a recipe."""
    weights = distil.Weights(recipe.alpha, recipe.temperature, recipe.smoothing, recipe.others)
    return Course(
        recipe.seed, recipe.epochs, recipe.batch, weights, recipe.averaging, stop=recipe.stop, last=True
    )
