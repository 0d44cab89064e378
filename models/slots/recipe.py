"""What decides the outcome of training a command parser besides the data, tier by tier."""

from __future__ import annotations

from dataclasses import dataclass

from models.intents.recipe import Recipe as LstmRecipe
from models.minilm.recipe import Recipe as EncoderRecipe


@dataclass(frozen=True)
class Recipe:
    """body: sizes, rates, seed and epochs, as the intent model of that kind has them; its alpha is the teacher's share
    of both heads' losses. tags: how much the tags' loss counts beside the intent's, which counts 1. swap: chance that a
    slot's value is replaced by another one of its type, in each sentence of each epoch."""

    body: LstmRecipe | EncoderRecipe
    tags: float = 2.0
    swap: float = 0.4


TINY = Recipe(
    LstmRecipe(
        epochs=30, batch=32, averaging=0.99, features=48, hidden=96, vocabulary=4000, alpha=0.5, weight_decay=0.02,
        word_dropout=0.05, embedding_dropout=0.2, pooled_dropout=0.3,
    ),
)  # fmt: skip
MINI = Recipe(
    EncoderRecipe(
        epochs=10, batch=64, longest=64, rate=3e-4, head_rate=2e-3, alpha=0.5, layers=(0, 2, 4), heads=8, units=1024,
        served=10_000,
    ),
)  # fmt: skip
BASE = Recipe(EncoderRecipe(epochs=8, batch=64, longest=64, rate=1e-4, head_rate=2e-3, alpha=0.0))
"""Not small: it is what the other two are taught by."""

TIERS = {"base": BASE, "mini": MINI, "tiny": TINY}
