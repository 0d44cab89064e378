"""Distillation: a student learns what its teacher says beside, or in place of, the labels.

Hinton et al. 2015 ("Distilling the Knowledge in a Neural Network"): cross-entropy with the labels, and the
divergence of the two softened distributions, which is multiplied by the square of the temperature so that its
gradient keeps its size. A teacher with a head for each of several sets is heard on all of them: what it takes a
banking question for among the intents of a smart home says something of the sentence too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Weights(NamedTuple):
    """alpha: share of the teacher's part in the loss of a labelled sentence (0: labels alone); temperature: how
    much both distributions are softened; smoothing: of the labels; others: how much the heads of the other sets
    count beside the sentence's own, which counts 1."""

    alpha: float
    temperature: float
    smoothing: float
    others: float = 0.0


def loss(
    scores: Any, soft: Any, targets: Any, of_task: Any, slices: Sequence[slice], weights: Weights
) -> Any:
    """Mean loss of a batch. scores, soft: [batch, all classes]; targets: [batch], a class of the common row, negative
    where a sentence has no label; of_task: [batch], whose sentence it is; slices: each task's part of the classes."""
    hard, divergence = jnp.zeros(scores.shape[0]), jnp.zeros(scores.shape[0])
    for number, part in enumerate(slices):
        own = of_task == number
        classes = part.stop - part.start
        wanted = jax.nn.one_hot(targets - part.start, classes) * (1 - weights.smoothing)
        wanted = wanted + weights.smoothing / classes
        crossed = -jnp.sum(wanted * jax.nn.log_softmax(scores[:, part]), axis=1)
        hard = jnp.where(own, crossed, hard)
        if weights.alpha:
            teacher = jax.nn.log_softmax(soft[:, part] / weights.temperature)
            gap = teacher - jax.nn.log_softmax(scores[:, part] / weights.temperature)
            counts = jnp.where(own, 1.0, weights.others)
            divergence += counts * jnp.sum(jnp.exp(teacher) * gap, axis=1)
    labelled = targets >= 0
    share = jnp.where(labelled, weights.alpha, 1.0 if weights.alpha else 0.0)
    each = share * weights.temperature**2 * divergence + jnp.where(labelled, (1 - share) * hard, 0.0)
    return jnp.sum(each) / jnp.maximum(jnp.sum(labelled | (share > 0)), 1)
