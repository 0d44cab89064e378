"""Fine-tuning an encoder with one row of classes for several sets; every epoch is a checkpoint to resume from."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.batches import batches, pad
from models.corpus import Classes, Task
from models.intents.utterances import Utterance, vary
from models.minilm.network import Encoder, Network, head, logits
from models.minilm.recipe import Recipe

STEP_SIZES = (8, 12, 16, 20, 24, 32, 48, 64, 96, 128)
"""Padded lengths of the batches: each is compiled once."""


class Progress(NamedTuple):
    """How far a training is: step of all steps, the running loss, and at an epoch's end accuracy (0..1) by set."""

    epoch: int
    step: int
    steps: int
    loss: float
    valid: Mapping[str, float]


class Trained(NamedTuple):
    """What came out: the averaged weights, their accuracy (0..1) on each validation part, seconds of all the runs."""

    network: Network
    valid: dict[str, float]
    seconds: float


class State(NamedTuple):
    """Everything that a training needs to go on: weights, their running average, the optimiser and the step.

    The table of tokens is not among them: it stays as it was. It is half of the parameters, few of its rows are met in
    a training set, and a row that is moved stops to fit the ones that are not.
    """

    network: Network
    average: Network
    optimiser: Any
    step: int
    key: Any


def fit(
    tasks: Sequence[Task],
    encoder: Encoder,
    tokenizer: Tokenizer,
    recipe: Recipe,
    cache: Path,
    report: Callable[[Progress], None],
) -> Trained:
    """Fine-tune and return the averaged weights.

    Every random choice derives from `recipe.seed`. After each epoch the state is written below `cache`, in a folder
    named after the recipe and the data, and a later call goes on from there.
    """
    classes = Classes(tasks)
    items = [(number, item) for number, task in enumerate(tasks) for item in task.train]
    targets = np.concatenate([classes.targets(task, task.train) for task in tasks])
    of_task = np.array([number for number, _ in items])
    per_epoch = len(items) // recipe.batch
    steps = recipe.epochs * per_epoch
    optimiser = _optimiser(recipe, steps)
    start, key = jax.random.split(jax.random.key(recipe.seed, impl="rbg"))
    features = int(encoder.tokens.shape[1])
    network = Network(encoder, head(start, features, len(classes.names)))
    folder = cache / _name(recipe, tasks, encoder)
    tokens = jnp.asarray(network.encoder.tokens)
    trained = _with_tokens(network, None)
    state = State(trained, trained, optimiser.init(trained), 0, key)
    done, state, before = _resume(folder, state)
    began = time.monotonic()
    step = _step(optimiser, recipe, tokens, jnp.asarray(classes.outside))

    def measured(state: State) -> dict[str, float]:
        average = _with_tokens(state.average, tokens)
        return {
            task.name: accuracy(average, classes.slices[task.name], task.labels, task.valid, tokenizer)
            for task in tasks
        }

    valid: dict[str, float] = {}
    for epoch in range(done + 1, (recipe.stop or recipe.epochs) + 1):
        random = Random(f"{recipe.seed}/{epoch}")
        texts = [vary(item.text, random) for _, item in items]
        rows = [encoding.ids[: recipe.longest] for encoding in tokenizer.encode_batch(texts)]
        running = 0.0
        for number, batch in enumerate(batches(rows, recipe.batch, random)):
            ids, lengths = pad([rows[row] for row in batch], STEP_SIZES)
            state, loss = step(state, ids, lengths, targets[batch], of_task[batch])
            running = float(loss) if not number else 0.98 * running + 0.02 * float(loss)
            report(Progress(epoch, state.step, steps, running, {}))
        valid = measured(state)
        _keep(folder, epoch, state, before + time.monotonic() - began)
        report(Progress(epoch, state.step, steps, running, valid))
    seconds = before + time.monotonic() - began
    return Trained(_with_tokens(state.average, tokens), valid or measured(state), seconds)


def _with_tokens(network: Network, tokens: Any) -> Network:
    return network._replace(encoder=network.encoder._replace(tokens=tokens))


def _optimiser(recipe: Recipe, steps: int) -> Any:
    def schedule(rate: float) -> Any:
        return optax.warmup_cosine_decay_schedule(
            0.0, rate, max(1, int(steps * recipe.warm)), steps, rate * 0.01
        )

    def adamw(rate: float) -> Any:
        return optax.adamw(schedule(rate), weight_decay=recipe.weight_decay)

    def parts(network: Network) -> Network:
        return Network(
            jax.tree.map(lambda _: "encoder", network.encoder), jax.tree.map(lambda _: "head", network.head)
        )

    both = optax.multi_transform({"encoder": adamw(recipe.rate), "head": adamw(recipe.head_rate)}, parts)
    return optax.chain(optax.clip_by_global_norm(1.0), both)


def _step(optimiser: Any, recipe: Recipe, tokens: Any, outside: Any) -> Callable[..., tuple[State, Any]]:
    def loss(
        trained: Network, key: Any, tokens: Any, ids: Any, lengths: Any, targets: Any, of_task: Any
    ) -> Any:
        scores = logits(_with_tokens(trained, tokens), ids, lengths, recipe.dropout, key)
        strange = outside[of_task]
        scores = jnp.where(strange, -1e9, scores)
        inside = jnp.sum(~strange, axis=1, keepdims=True)
        wanted = (1 - recipe.smoothing) * jax.nn.one_hot(targets, scores.shape[1])
        wanted = wanted + recipe.smoothing * ~strange / inside
        return -(wanted * jnp.where(strange, 0.0, jax.nn.log_softmax(scores))).sum(axis=1).mean()

    def run(state: State, *batch: Any) -> tuple[State, Any]:
        key, now = jax.random.split(state.key)
        value, slope = jax.value_and_grad(loss)(state.network, now, *batch)
        change, optimiser_state = optimiser.update(slope, state.optimiser, state.network)
        network = optax.apply_updates(state.network, change)
        # Early on the average follows closely, or it would still hold the random start.
        keep = jnp.minimum(recipe.averaging, (1 + state.step) / (10 + state.step))
        average = jax.tree.map(lambda old, new: keep * old + (1 - keep) * new, state.average, network)
        return State(network, average, optimiser_state, state.step + 1, key), value

    compiled = jax.jit(run)

    def counted(state: State, *batch: Any) -> tuple[State, Any]:
        # An argument, for a constant would be part of each of the programs that are compiled.
        state, value = compiled(state, tokens, *batch)
        return state._replace(step=int(state.step)), value

    return counted


_logits = jax.jit(logits)


def scores(
    network: Network, texts: Sequence[str], tokenizer: Tokenizer, batch: int = 64
) -> NDArray[np.float32]:
    """Scores [texts, all classes], without dropout, in the order of the texts."""
    rows = [encoding.ids[: STEP_SIZES[-1]] for encoding in tokenizer.encode_batch(list(texts))]
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    found: NDArray[np.float32] | None = None
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        ids, lengths = pad([rows[row] for row in part], STEP_SIZES)
        # One shape per length: a last, smaller batch would be compiled on its own.
        ids = np.concatenate([ids, np.zeros((batch - len(part), ids.shape[1]), np.int64)])
        lengths = np.concatenate([lengths, np.ones(batch - len(part), np.int64)])
        answers = np.asarray(_logits(network, ids, lengths))[: len(part)]
        if found is None:
            found = np.zeros((len(rows), answers.shape[1]), np.float32)
        found[part] = answers
    assert found is not None  # noqa: S101  # there is at least one text
    return found


def accuracy(
    network: Network, own: slice, labels: Sequence[str], items: Sequence[Utterance], tokenizer: Tokenizer
) -> float:
    """Share (0..1) of the items whose best class in the slice `own` is their intent."""
    best = scores(network, [item.text for item in items], tokenizer)[:, own].argmax(axis=1)
    return float(np.mean([labels[at] == item.intent for at, item in zip(best, items, strict=True)]))


def _name(recipe: Recipe, tasks: Sequence[Task], encoder: Encoder) -> str:
    digest = hashlib.sha256(repr(dataclasses.astuple(recipe)).encode())
    digest.update(repr([leaf.shape for leaf in jax.tree.leaves(encoder)]).encode())
    for task in tasks:
        for item in (*task.train, *task.valid):
            digest.update(f"{item.text}\t{item.intent}\n".encode())
    return digest.hexdigest()[:16]


def _keep(folder: Path, epoch: int, state: State, seconds: float) -> None:
    """Write the state of an epoch; whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"unfinished.{os.getpid()}"
    plain = jax.tree.map(np.asarray, state._replace(key=jax.random.key_data(state.key)))
    with unfinished.open("wb") as file:
        pickle.dump((epoch, jax.tree.leaves(plain), seconds), file)
    unfinished.replace(folder / "state.pickle")


def _resume(folder: Path, start: State) -> tuple[int, State, float]:
    """The epoch that was finished last, its state and the seconds until then; 0 and `start` when there is none."""
    file = folder / "state.pickle"
    if not file.exists():
        return 0, start, 0.0
    with file.open("rb") as opened:
        epoch, leaves, seconds = pickle.load(opened)  # noqa: S301  # our own file, in the user's own cache
    shape = jax.tree.structure(start._replace(key=jax.random.key_data(start.key)))
    state: State = jax.tree.unflatten(shape, leaves)
    key = jax.random.wrap_key_data(state.key, impl="rbg")
    return epoch, state._replace(key=key, step=int(state.step)), seconds
