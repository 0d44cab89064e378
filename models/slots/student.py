"""The tiers of the command parser: what each starts from, and its training."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from tokenizers import Tokenizer

from models import fit as kept
from models.intents import fit as lstm_fit
from models.intents import network as lstm
from models.intents.recipe import Recipe as LstmRecipe
from models.intents.vocabulary import part_of_vocabulary
from models.minilm import fit as minilm_fit
from models.minilm import network as minilm
from models.minilm.recipe import Recipe as EncoderRecipe
from models.minilm.start import Start
from models.minilm.student import as_served, smaller
from models.minilm.vocabulary import trim
from models.slots import export, network
from models.slots.corpus import Commands
from models.slots.fit import Course, Parser, fit
from models.slots.lessons import Lessons
from models.slots.recipe import Recipe
from models.slots.teacher import Teacher


class Made(NamedTuple):
    """What a training made. kind: of `models.slots.entry.VARIANTS`; export: writes the FP32 file; longest: tokens that
    are read; structure and training: what a card tells of both."""

    kind: str
    export: Callable[[Path], Path]
    tokenizer: Tokenizer
    longest: int
    structure: Mapping[str, Any]
    training: Mapping[str, Any]


Report = Callable[[kept.Progress], None]


def make(
    commands: Commands, begin: Start, teacher: Teacher | None, recipe: Recipe, cache: Path, report: Report
) -> Made:
    """Train the tier of a recipe. begin: the encoder that it starts from; a BiLSTM takes its table of tokens alone.
    Epochs are kept below `cache`. Raises ValueError when there are too few sentences to train on."""
    if len(commands.train) < recipe.body.batch:
        raise ValueError(
            f"{len(commands.train)} sentences are too few to train on; a batch alone is {recipe.body.batch}"
        )
    if teacher is None:
        # Without a teacher its share of the loss would be that of nothing.
        recipe = dataclasses.replace(recipe, body=dataclasses.replace(recipe.body, alpha=0.0))
    if isinstance(recipe.body, LstmRecipe):
        return _recurrent(commands, begin, teacher, recipe, recipe.body, cache, report)
    return _transformer(commands, begin, teacher, recipe, recipe.body, cache, report)


def _recurrent(
    commands: Commands,
    begin: Start,
    teacher: Teacher | None,
    recipe: Recipe,
    body: LstmRecipe,
    cache: Path,
    report: Report,
) -> Made:
    larger = begin.tokenizer.get_vocab()
    tokenizer = part_of_vocabulary(larger, [command.text for command in commands.train], body.vocabulary)
    pieces = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    table = np.asarray(begin.encoder.tokens)[[larger[piece] for piece in pieces]]
    drawn = lstm_fit.start(body, len(pieces), len(commands.names.labels), table)
    start = network.Recurrent(drawn, _head(body.seed, 2 * body.hidden, commands))
    rate = lstm.Dropout(body.word_dropout, body.embedding_dropout, body.pooled_dropout)

    def scores(trained: Any, ids: Any, lengths: Any, key: Any) -> network.Scores:
        return network.recurrent(trained, ids, lengths, None if key is None else rate, key)

    optimiser = lstm_fit.network(body, drawn).optimiser
    parser = Parser(start, scores, optimiser, lstm_fit.STEP_SIZES)
    trained = _fitted(commands, parser, tokenizer, teacher, recipe, cache / "lstm", begin.name, report)
    best = network.Recurrent(*trained.trained)
    structure = {
        "layers": "one bidirectional LSTM",
        "features": body.features,
        "hidden": body.hidden,
        "vocabulary": len(pieces),
        "parameters": minilm.parameters(best),
    }
    return Made(
        "recurrent",
        lambda path: export.recurrent(best, path),
        tokenizer,
        longest(body),
        structure,
        _told(recipe, teacher, trained),
    )


def _transformer(
    commands: Commands,
    begin: Start,
    teacher: Teacher | None,
    recipe: Recipe,
    body: EncoderRecipe,
    cache: Path,
    report: Report,
) -> Made:
    cut = smaller(begin, [commands.task], body) if body.layers else begin
    encoder, tokenizer = trim(cut.encoder, cut.tokenizer)
    drawn = minilm_fit.start(body, encoder, len(commands.names.labels))
    start = network.Transformer(drawn, _head(body.seed, int(encoder.tokens.shape[1]), commands))
    sizes = [size for size in minilm_fit.STEP_SIZES if size <= body.longest]

    def scores(trained: Any, ids: Any, lengths: Any, key: Any) -> network.Scores:
        still = trained._replace(body=minilm_fit.still(trained.body))
        return network.transformer(still, ids, lengths, 0.0 if key is None else body.dropout, key)

    parser = Parser(start, scores, lambda steps: minilm_fit.two_rates(body, steps, _named), sizes)
    trained = _fitted(commands, parser, tokenizer, teacher, recipe, cache / "encoder", begin.name, report)
    best = network.Transformer(*trained.trained)
    whole, tokenizer = as_served(best.body.encoder, tokenizer, begin, [commands.task], body)
    best = best._replace(body=best.body._replace(encoder=whole))
    return Made(
        "transformer",
        lambda path: export.transformer(best, path),
        tokenizer,
        longest(body),
        minilm.sizes(best.body.encoder) | {"parameters": minilm.parameters(best)},
        _told(recipe, teacher, trained),
    )


def _named(trained: network.Transformer) -> network.Transformer:
    """As `models.minilm.fit.named`, and the tags' head with the other one."""
    return network.Transformer(minilm_fit.named(trained.body), jax.tree.map(lambda _: "head", trained.tags))


def _fitted(
    commands: Commands,
    parser: Parser,
    tokenizer: Tokenizer,
    teacher: Teacher | None,
    recipe: Recipe,
    cache: Path,
    begin: str,
    report: Report,
) -> kept.Trained:
    body, names = recipe.body, commands.names
    lessons = Lessons(
        commands.train, names.labels, names.tags, sizes=parser.sizes, swap=recipe.swap, teacher=teacher
    )
    course = Course(
        body.seed, body.epochs, body.batch, recipe.tags, body.alpha, body.temperature, body.smoothing, body.averaging
    )  # fmt: skip
    heard = teacher.digest if teacher else ""
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(parser.trained)]
    folder = cache / kept.name([commands.task], commands.digest, recipe, begin, heard, shapes)
    return fit(lessons, commands.valid, names, parser, tokenizer, course, folder, report)


def longest(body: LstmRecipe | EncoderRecipe) -> int:
    """Tokens that a network of this recipe reads at most."""
    return body.longest if isinstance(body, EncoderRecipe) else lstm_fit.STEP_SIZES[-1]


def _head(seed: int, features: int, commands: Commands) -> minilm.Linear:
    # Another seed than the intent's head: the two must not start as the same numbers.
    return minilm.head(jax.random.key(seed + 1, impl="rbg"), features, len(commands.names.tags))


def _told(recipe: Recipe, teacher: Teacher | None, trained: kept.Trained) -> dict[str, Any]:
    """The training's part of a card."""
    return {
        **dataclasses.asdict(recipe.body),
        "tags": recipe.tags,
        "swap": recipe.swap,
        **({"teacher": teacher.name} if teacher else {}),
        "seconds": round(trained.seconds),
    }
