"""The tiers that are transformers: the whole encoder fine-tuned, or a pruned one of fewer layers taught by it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer

from models import fit
from models.build import Made
from models.corpus import Classes, Task
from models.entries import read_entry
from models.lessons import Lessons, Told
from models.methods.prune import prune
from models.minilm import fit as minilm
from models.minilm.export import export
from models.minilm.network import Encoder, Linear, Network, sizes
from models.minilm.recipe import Recipe
from models.minilm.start import Start
from models.minilm.vocabulary import only, trim


def smaller(begin: Start, tasks: Sequence[Task], recipe: Recipe) -> Start:
    """The start of a mini: the layers, heads and units that the recipe keeps, and as many pieces of words."""
    few = with_pieces(begin, tasks, recipe.vocabulary)
    pruned = prune(
        few.encoder, heads=recipe.heads or None, units=recipe.units or None, layers=recipe.layers or None
    )
    return few._replace(encoder=pruned)


def with_pieces(begin: Start, tasks: Sequence[Task], count: int) -> Start:
    """The same encoder with the pieces of words that the training parts use, and the commonest ones of the language
    where there is room for `count` in all: a tenth of the sentences of a validation part hold a word that no training
    sentence has."""
    used = {
        token
        for task in tasks
        for encoding in begin.tokenizer.encode_batch([item.text for item in task.train])
        for token in encoding.tokens
    }
    encoder, tokenizer = only(begin.encoder, begin.tokenizer, used)
    places = max(0, count - tokenizer.get_vocab_size())
    if places:
        encoder, tokenizer = only(begin.encoder, begin.tokenizer, used | set(_common(begin, used)[:places]))
    return begin._replace(encoder=encoder, tokenizer=tokenizer)


def as_served(
    encoder: Encoder, tokenizer: Tokenizer, larger: Start, tasks: Sequence[Task], recipe: Recipe
) -> tuple[Encoder, Tokenizer]:
    """A trained encoder and its tokenizer with as many pieces as the recipe serves: the rows of `larger`, that it was
    cut from, which training leaves as they are."""
    if not recipe.served:
        return encoder, tokenizer
    wide = with_pieces(larger, tasks, recipe.served)
    return encoder._replace(tokens=wide.encoder.tokens), wide.tokenizer


def _common(begin: Start, used: Container[str]) -> list[str]:
    """The words and parts of words that are not in `used`, the commonest first, as the vocabulary lists them. Single
    characters stay in any case."""
    table = begin.tokenizer.get_vocab()
    pieces = [piece for piece in sorted(table, key=table.__getitem__) if piece not in used]
    return [
        piece
        for piece in pieces
        if (bare := piece.removeprefix("##")).isascii() and bare.isalnum() and len(bare) > 1
    ]


def make(
    tasks: Sequence[Task],
    begin: Start,
    told: Told | None,
    recipe: Recipe,
    cache: Path,
    report: Callable[[fit.Progress], None],
    larger: Start | None = None,
) -> Made:
    """Train the encoder of `begin` as it is, with a head for each task: those that it has already, where all are there.
    larger: what it was cut from, see `as_served`.

    Epochs are kept below `cache`. Raises ValueError when there are too few sentences to train on.
    """
    sentences = sum(len(task.train) for task in tasks)
    if sentences < recipe.batch:
        raise ValueError(f"{sentences} sentences are too few to train on; a batch alone is {recipe.batch}")
    classes = Classes(tasks)
    used = recipe if told else dataclasses.replace(recipe, alpha=0.0, variants=0)
    encoder, tokenizer = trim(begin.encoder, begin.tokenizer)
    start = minilm.start(used, encoder, len(classes.names))
    widths = [part.stop - part.start for part in classes.slices.values()]
    if [head.weight.shape[1] for head in begin.heads.values()] == widths:
        start = start._replace(head=_side_by_side(list(begin.heads.values())))
    lessons = Lessons(tasks, classes, sizes=minilm.STEP_SIZES, told=told, variants=used.variants)
    shape = [tuple(part.shape) for layer in encoder.layers for part in (layer.query.weight, layer.up.weight)]
    folder = cache / fit.name(tasks, used, begin.name, shape, told.digest if told else "")
    trained = fit.fit(
        tasks, lessons, minilm.network(used, start), tokenizer, minilm.course(used), folder, report
    )
    best: Network = trained.trained
    if larger is not None:
        encoder, tokenizer = as_served(best.encoder, tokenizer, larger, tasks, used)
        best = best._replace(encoder=encoder)
    return Made(
        export=lambda heads, path: export(best.encoder, heads_of(best, heads), path),
        tokenizer=tokenizer,
        longest=used.longest,
        structure=sizes(best.encoder),
        training={
            **dataclasses.asdict(used),
            "seconds": round(trained.seconds),
            "teacher": told.teacher if told else "",
        },
    )


def as_it_is(begin: Start, tasks: Sequence[Task], recipe: Recipe) -> Made:
    """An encoder that is not trained again, for another variant of it, with what its card tells of its training.

    Raises ValueError where its heads are not those of the sets.
    """
    classes = Classes(tasks)
    best = Network(begin.encoder, _side_by_side(list(begin.heads.values())))
    if best.head.bias.shape[0] != len(classes.names):
        raise ValueError(
            f"{begin.name} tells {best.head.bias.shape[0]} classes apart, the sets have {len(classes.names)}"
        )
    card = read_entry(begin.folder).card if begin.folder else {}
    return Made(
        export=lambda heads, path: export(best.encoder, heads_of(best, heads), path),
        tokenizer=begin.tokenizer,
        longest=min(recipe.longest, int(begin.encoder.positions.shape[0])),
        structure=sizes(best.encoder),
        training=card.get("training", {"seconds": 0, "seed": recipe.seed}),
        before={name: head["test_fp32"] for name, head in card.get("heads", {}).items()},
    )


def heads_of(network: Network, heads: Mapping[str, slice]) -> dict[str, Linear]:
    """The named parts of the common head."""
    weight, bias = np.asarray(network.head.weight), np.asarray(network.head.bias)
    return {output: Linear(weight[:, own], bias[own]) for output, own in heads.items()}


def _side_by_side(heads: Sequence[Linear]) -> Linear:
    return Linear(
        jnp.concatenate([head.weight for head in heads], axis=1),
        jnp.concatenate([head.bias for head in heads]),
    )
