"""The BiLSTM as `models.fit` trains it: its start, its dropout and its rates."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import optax
from numpy.typing import NDArray

from models import distil
from models.fit import Course, Network
from models.intents import network as lstm
from models.intents.recipe import Recipe

STEP_SIZES = (8, 12, 16, 24, 40, 64)
"""Padded lengths of the batches: each is compiled once."""


def start(
    recipe: Recipe, tokens: int, classes: int, table: NDArray[np.float32] | None = None
) -> lstm.Network:
    """A network to begin with. table [tokens, any features]: a larger model's rows of the same tokens; its
    directions of largest variance are what the embedding starts as, so that words which are alike start alike."""
    drawn = lstm.init(
        jax.random.key(recipe.seed),
        tokens=tokens,
        classes=classes,
        features=recipe.features,
        hidden=recipe.hidden,
    )
    # A table that is narrower than the embedding, as in a test, has no such directions to give.
    if table is None or min(table.shape) < recipe.features:
        return drawn
    return drawn._replace(embedding=reduced(table, recipe.features))


def reduced(table: NDArray[np.float32], features: int) -> NDArray[np.float32]:
    """[rows, features]: the principal components of `table` [rows, more], scaled as a drawn embedding is."""
    centred = table - table.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    found = centred @ directions[:features].T
    return np.asarray(found / found.std() * lstm.EMBEDDING_SCALE, np.float32)


def network(recipe: Recipe, begin: lstm.Network) -> Network:
    """What is trained, and how."""
    rate = lstm.Dropout(recipe.word_dropout, recipe.embedding_dropout, recipe.pooled_dropout)

    def scores(trained: Any, ids: Any, lengths: Any, key: Any) -> Any:
        return lstm.logits(trained, ids, lengths, None if key is None else rate, key)

    def optimiser(steps: int) -> Any:
        schedule = optax.warmup_cosine_decay_schedule(
            0.0, recipe.rate, max(1, steps // 20), steps, recipe.rate * 0.01
        )
        return optax.chain(
            optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=recipe.weight_decay)
        )

    return Network(begin, scores, optimiser, STEP_SIZES)


def course(recipe: Recipe) -> Course:
    """The epochs and losses of a recipe."""
    weights = distil.Weights(recipe.alpha, recipe.temperature, recipe.smoothing, recipe.others)
    return Course(recipe.seed, recipe.epochs, recipe.batch, weights, recipe.averaging)
