"""The tiny tier: a BiLSTM with pieces of a larger vocabulary, taught by a larger tier where one knows the sets."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Tokenizer

from models import fit
from models.build import Made
from models.corpus import Classes, Task
from models.intents import fit as lstm
from models.intents import network
from models.intents.recipe import Recipe
from models.intents.vocabulary import part_of_vocabulary
from models.lessons import Lessons, Told
from models.minilm.network import parameters
from models.minilm.start import Start

LONGEST = lstm.STEP_SIZES[-1]
"""Tokens that are read of a sentence."""


class Taught(NamedTuple):
    """What a training gave. recipe: as it was used; seconds: of all its runs."""

    network: network.Network
    tokenizer: Tokenizer
    recipe: Recipe
    seconds: float


def make(
    tasks: Sequence[Task],
    begin: Start,
    told: Told | None,
    recipe: Recipe,
    cache: Path,
    report: Callable[[fit.Progress], None],
) -> Made:
    """Train it, for an entry; see `train`."""
    taught = train(tasks, begin, told, recipe, cache, report)
    return Made(
        export=lambda heads, path: network.export(taught.network, heads, path),
        tokenizer=taught.tokenizer,
        longest=LONGEST,
        structure={
            "layers": "one bidirectional LSTM",
            "features": recipe.features,
            "hidden": recipe.hidden,
            "vocabulary": taught.tokenizer.get_vocab_size(),
            "parameters": parameters(taught.network),
        },
        training={
            **dataclasses.asdict(taught.recipe),
            "seconds": round(taught.seconds),
            "teacher": told.teacher if told else "",
        },
    )


def train(
    tasks: Sequence[Task],
    begin: Start,
    told: Told | None,
    recipe: Recipe,
    cache: Path,
    report: Callable[[fit.Progress], None],
) -> Taught:
    """Train it. begin: a larger encoder, whose table of tokens says which words are alike. Epochs are kept below
    `cache`.

    Raises ValueError when there are too few sentences to train on.
    """
    texts = [item.text for task in tasks for item in task.train]
    if len(texts) < recipe.batch:
        raise ValueError(f"{len(texts)} sentences are too few to train on; a batch alone is {recipe.batch}")
    larger = begin.tokenizer.get_vocab()
    rebuilt = [text for row in told.rebuilt for text in row] if told else []
    tokenizer = part_of_vocabulary(larger, texts, recipe.vocabulary, rebuilt)
    pieces = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    table = np.asarray(begin.encoder.tokens)[[larger[piece] for piece in pieces]]
    start = lstm.start(recipe, len(pieces), len(Classes(tasks).names), table)
    return go_on(tasks, start, tokenizer, told, recipe, cache, report)


def go_on(
    tasks: Sequence[Task],
    start: network.Network,
    tokenizer: Tokenizer,
    told: Told | None,
    recipe: Recipe,
    cache: Path,
    report: Callable[[fit.Progress], None],
    *decisive: Any,
) -> Taught:
    """Train from `start`. decisive: what tells this start from others of its shape, for the folder below `cache`."""
    lessons = Lessons(tasks, Classes(tasks), sizes=lstm.STEP_SIZES, told=told, variants=recipe.variants)
    # Without a teacher its share of the loss would be that of nothing.
    used = recipe if told else dataclasses.replace(recipe, alpha=0.0, variants=0)
    named = (told.digest if told else "", tokenizer.get_vocab_size(), *decisive)
    folder = cache / fit.name(tasks, "lstm", used, *named)
    trained = fit.fit(tasks, lessons, lstm.network(used, start), tokenizer, lstm.course(used), folder, report)
    return Taught(network.Network(*trained.trained), tokenizer, used, trained.seconds)
