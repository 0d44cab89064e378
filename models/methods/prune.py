"""Structured pruning by L1 importance: heads, feed-forward units and layers go, and the shapes shrink.

Li et al. 2017 ("Pruning Filters for Efficient ConvNets"): what has the smallest sum of absolute weights is taken
to matter least. Heads as Michel et al. 2019 ("Are Sixteen Heads Really Better than One?") take them out. What is
removed gives what setting its output weights to zero would give; getting the accuracy back is the training's part.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.minilm.network import Encoder, Layer, Linear


def prune(encoder: Encoder, *, heads: int = 0, units: int = 0, layers: Sequence[int] = ()) -> Encoder:
    """The encoder with `heads` heads and `units` units left in each layer, and only the named `layers`; 0 or nothing
    leaves all of them. Raises ValueError when there are not so many."""
    if strange := [at for at in layers if not 0 <= at < len(encoder.layers)]:
        raise ValueError(
            f"layer {strange[0]} is not there: the encoder has the layers 0 to {len(encoder.layers) - 1}"
        )
    kept = [encoder.layers[at] for at in layers] or list(encoder.layers)
    return encoder._replace(layers=tuple(_units(_heads(layer, heads), units) for layer in kept))


def _heads(layer: Layer, count: int) -> Layer:
    if not count:
        return layer
    parts = (layer.query, layer.key, layer.value)
    weight = sum(np.abs(np.asarray(part.weight)).sum(axis=(0, 2)) for part in parts)
    weight = weight + np.abs(np.asarray(layer.output.weight)).sum(axis=(1, 2))
    best = most(np.asarray(weight), count, "heads")
    query, key, value = (Linear(part.weight[:, best], part.bias[best]) for part in parts)
    output = Linear(layer.output.weight[best], layer.output.bias)
    return layer._replace(query=query, key=key, value=value, output=output)


def _units(layer: Layer, count: int) -> Layer:
    if not count:
        return layer
    weight = np.abs(np.asarray(layer.up.weight)).sum(axis=0) + np.abs(np.asarray(layer.down.weight)).sum(
        axis=1
    )
    best = most(weight, count, "units")
    return layer._replace(
        up=Linear(layer.up.weight[:, best], layer.up.bias[best]),
        down=Linear(layer.down.weight[best], layer.down.bias),
    )


def most(importance: NDArray[np.floating], count: int, what: str) -> NDArray[np.intp]:
    """Where the `count` largest values are, in their old order. Raises ValueError when there are not so many."""
    if not 0 < count <= len(importance):
        raise ValueError(f"{count} {what} cannot be kept of {len(importance)}; keep 1 to {len(importance)}")
    return np.sort(np.argsort(-importance, kind="stable")[:count])
