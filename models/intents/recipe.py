"""What decides the outcome of a training besides the data."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """Sizes, rates and the seed of one training. `batch` is also the fewest sentences to train on; `alpha` the
    teacher's share of the loss (0: labels alone), `variants` how many rebuilt sentences of each go along in an
    epoch."""

    seed: int = 1
    epochs: int = 40
    batch: int = 64
    features: int = 64
    hidden: int = 96
    vocabulary: int = 4000
    rate: float = 3e-3
    weight_decay: float = 0.05
    smoothing: float = 0.1
    averaging: float = 0.998
    word_dropout: float = 0.1
    embedding_dropout: float = 0.3
    pooled_dropout: float = 0.5
    alpha: float = 0.0
    temperature: float = 2.0
    others: float = 0.5
    variants: int = 0
