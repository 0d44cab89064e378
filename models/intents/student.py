"""The tiny tier: a BiLSTM with pieces of a larger vocabulary, taught by a larger tier where one knows the sets."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

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


def make(
    tasks: Sequence[Task],
    begin: Start,
    told: Told | None,
    recipe: Recipe,
    cache: Path,
    report: Callable[[fit.Progress], None],
) -> Made:
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
    classes = Classes(tasks)
    start = lstm.start(recipe, len(pieces), len(classes.names), table)
    lessons = Lessons(tasks, classes, sizes=lstm.STEP_SIZES, told=told, variants=recipe.variants)
    # Without a teacher its share of the loss would be that of nothing.
    used = recipe if told else dataclasses.replace(recipe, alpha=0.0, variants=0)
    folder = cache / fit.name(tasks, "lstm", used, told.digest if told else "", len(pieces))
    trained = fit.fit(tasks, lessons, lstm.network(used, start), tokenizer, lstm.course(used), folder, report)
    best = network.Network(*trained.trained)
    return Made(
        export=lambda heads, path: network.export(best, heads, path),
        tokenizer=tokenizer,
        longest=lstm.STEP_SIZES[-1],
        structure={
            "layers": "one bidirectional LSTM",
            "features": recipe.features,
            "hidden": recipe.hidden,
            "vocabulary": len(pieces),
            "parameters": parameters(best),
        },
        training={**dataclasses.asdict(used), "seconds": round(trained.seconds)},
    )
