"""Encoders of random weights for the tests, small and large enough for a wrong axis to show."""

from __future__ import annotations

from typing import Any

import numpy as np

from models.minilm import network


def random_encoder(
    *,
    vocabulary: int,
    longest: int,
    features: int,
    heads: int,
    size: int,
    units: int,
    layers: int,
    spread: float,
) -> network.Encoder:
    """`size`: of a head; `spread`: standard deviation of the weights."""
    random = np.random.default_rng(7)

    def draw(*shape: int) -> Any:
        return random.normal(0, spread, shape).astype(np.float32)

    def head() -> network.Linear:
        return network.Linear(draw(features, heads, size), draw(heads, size))

    def norm() -> network.Norm:
        return network.Norm(1 + draw(features), draw(features))

    def layer() -> network.Layer:
        return network.Layer(
            query=head(),
            key=head(),
            value=head(),
            output=network.Linear(draw(heads, size, features), draw(features)),
            attention_norm=norm(),
            up=network.Linear(draw(features, units), draw(units)),
            down=network.Linear(draw(units, features), draw(features)),
            output_norm=norm(),
        )

    return network.Encoder(
        tokens=draw(vocabulary, features),
        positions=draw(longest, features),
        norm=norm(),
        layers=tuple(layer() for _ in range(layers)),
    )


def random_head(features: int, classes: int = 5) -> network.Linear:
    """A head over states of so many features."""
    random = np.random.default_rng(8)
    weight, bias = (
        random.normal(0, 0.3, shape).astype(np.float32) for shape in ((features, classes), (classes,))
    )
    return network.Linear(weight, bias)
