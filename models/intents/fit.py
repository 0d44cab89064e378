"""Fitting the network: the training step, and the choice of an epoch by the validation part."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tokenizers import Tokenizer

from models.batches import batches, pad
from models.intents.network import Dropout, Network, init, logits
from models.intents.recipe import Recipe
from models.intents.utterances import Utterance, vary

STEP_SIZES = (8, 12, 16, 24, 40, 64)
"""Padded lengths of the batches: each is compiled once."""


@dataclass(frozen=True)
class Epoch:
    """How one epoch went: mean training loss, accuracy (0..1) of the averaged weights on `valid`."""

    number: int
    loss: float
    valid: float
    best: bool


def fit(
    train: Sequence[Utterance],
    valid: Sequence[Utterance],
    labels: Sequence[str],
    tokenizer: Tokenizer,
    recipe: Recipe,
    report: Callable[[Epoch], None],
) -> tuple[Network, float]:
    """Train and return the averaged weights of the best epoch with their accuracy (0..1) on `valid`.

    Every random choice derives from `recipe.seed`; `report` is called after each epoch.
    """
    index = {label: number for number, label in enumerate(labels)}
    targets = np.array([index[item.intent] for item in train], np.int64)
    random = Random(recipe.seed)
    key, start = jax.random.split(jax.random.key(recipe.seed))
    network = init(
        start,
        tokens=tokenizer.get_vocab_size(),
        classes=len(labels),
        features=recipe.features,
        hidden=recipe.hidden,
    )
    total = recipe.epochs * (len(train) // recipe.batch)
    optimiser = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(
            optax.warmup_cosine_decay_schedule(0.0, recipe.rate, total // 20, total, recipe.rate * 0.01),
            weight_decay=recipe.weight_decay,
        ),
    )
    rate = Dropout(recipe.word_dropout, recipe.embedding_dropout, recipe.pooled_dropout)

    def loss(network: Network, key: Any, ids: Any, lengths: Any, wanted: Any) -> Any:
        scores = logits(network, ids, lengths, rate, key)
        smooth = optax.smooth_labels(jax.nn.one_hot(wanted, len(labels)), recipe.smoothing)
        return optax.softmax_cross_entropy(scores, smooth).mean()

    def step(network: Network, average: Network, state: Any, key: Any, number: Any, *batch: Any) -> Any:
        value, slope = jax.value_and_grad(loss)(network, key, *batch)
        change, state = optimiser.update(slope, state, network)
        network = optax.apply_updates(network, change)
        # Early on the average follows closely, or it would still hold the random start.
        keep = jnp.minimum(recipe.averaging, (1 + number) / (10 + number))
        average = jax.tree.map(lambda old, new: keep * old + (1 - keep) * new, average, network)
        return network, average, state, value

    step = jax.jit(step)
    average, state, best, chosen, count = network, optimiser.init(network), -1.0, network, 0
    for number in range(1, recipe.epochs + 1):
        rows = [
            encoding.ids for encoding in tokenizer.encode_batch([vary(item.text, random) for item in train])
        ]
        losses = []
        for batch in batches(rows, recipe.batch, random):
            key, now = jax.random.split(key)
            network, average, state, value = step(
                network,
                average,
                state,
                now,
                count,
                *pad([rows[at] for at in batch], STEP_SIZES),
                targets[batch],
            )
            losses.append(value)
            count += 1
        accuracy = score(average, valid, labels, tokenizer)
        if accuracy > best:
            best, chosen = accuracy, average
        report(Epoch(number, float(np.mean(losses)), accuracy, chosen is average))
    return chosen, best


_logits = jax.jit(logits)


def score(network: Network, items: Sequence[Utterance], labels: Sequence[str], tokenizer: Tokenizer) -> float:
    """Accuracy (0..1) of the network on `items`, without dropout."""
    right = 0
    for start in range(0, len(items), 128):
        part = items[start : start + 128]
        ids, lengths = pad(
            [encoding.ids for encoding in tokenizer.encode_batch([item.text for item in part])], STEP_SIZES
        )
        answers = np.asarray(_logits(network, ids, lengths)).argmax(axis=1)
        right += sum(labels[answer] == item.intent for answer, item in zip(answers, part, strict=True))
    return right / len(items)
