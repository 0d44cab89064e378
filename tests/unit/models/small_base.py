"""A base in miniature: an entry of a catalog of its own, for what is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from models import build, tiers, train
from models.corpus import Task
from models.intents.vocabulary import train_vocabulary
from models.minilm import start, student
from models.minilm.network import Encoder
from models.minilm.recipe import Recipe
from tests.unit.models.encoders import random_encoder

FEATURES, HEADS, UNITS, LONGEST, LAYERS = 32, 4, 64, 32, 2
FAST = Recipe(
    epochs=6,
    batch=32,
    longest=LONGEST,
    rate=3e-3,
    head_rate=1e-2,
    dropout=0.0,
    averaging=0.8,
    alpha=0.5,
    variants=0,
)
ABOUT = train.about([], "nothing", "this file", "none")


def encoder(vocabulary: int) -> Encoder:
    return random_encoder(
        vocabulary=vocabulary, longest=LONGEST, features=FEATURES, heads=HEADS, size=FEATURES // HEADS, units=UNITS,
        layers=LAYERS, spread=0.2,
    )  # fmt: skip


def make_base(tasks: Sequence[Task], folder: Path) -> Path:
    """Train it and return the folder of the entry intent/base below `folder`."""
    tokenizer = train_vocabulary((item.text for one in tasks for item in one.train), 200)
    begin = start.Start(encoder(tokenizer.get_vocab_size()), tokenizer, {}, "random")
    made = student.make(tasks, begin, None, FAST, folder / "cache", lambda now: None)
    variants = {"int8": tiers.INT8, "int4": tiers.INT4}
    build.build_entries(
        tasks, tasks[0].test, made, variants, {"base": "int8", "base-4bit": "int4"}, folder / "intent", version="1",
        about=ABOUT,
    )  # fmt: skip
    return folder / "intent/base"
