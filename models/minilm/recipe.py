"""What decides the outcome of fine-tuning an encoder besides the data."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """Sizes, rates and the seed of one fine-tuning. `warm` is the share of steps in which the rate climbs; `stop` ends
    it after so many of the epochs that the rates are laid out for, 0 after all of them. `alpha` is the teacher's
    share of the loss (0: labels alone), `variants` how many rebuilt sentences of each go along in an epoch.
    `layers`, `heads` and `units` are what a pruned encoder keeps, `vocabulary` how many pieces of words: those of the
    training sentences, then the commonest ones of the language; 0: the former alone. `served` is how many the file that
    comes out knows, 0: as many: the table of tokens is not trained, so that more of its rows fit whatever was."""

    seed: int = 1
    epochs: int = 8
    stop: int = 0
    batch: int = 128
    longest: int = 128
    rate: float = 1e-4
    head_rate: float = 2e-3
    warm: float = 0.06
    weight_decay: float = 0.01
    dropout: float = 0.1
    smoothing: float = 0.1
    averaging: float = 0.995
    alpha: float = 0.0
    temperature: float = 2.0
    others: float = 0.5
    variants: int = 0
    layers: tuple[int, ...] = ()
    heads: int = 0
    units: int = 0
    vocabulary: int = 0
    served: int = 0
