"""Structured pruning by L1 importance: heads, feed-forward units, layers and LSTM channels go, and the shapes shrink.

Li et al. 2017 ("Pruning Filters for Efficient ConvNets"): what has the smallest sum of absolute weights is taken
to matter least. Heads as Michel et al. 2019 ("Are Sixteen Heads Really Better than One?") take them out. What is
removed gives what setting its weights to zero would give; getting the accuracy back is the training's part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.intents import network as bilstm
from models.methods.row import Row
from models.methods.timing import measured
from models.minilm.export import export
from models.minilm.network import Encoder, Layer, Linear, parameters, sizes


def prune(
    encoder: Encoder,
    *,
    heads: int | None = None,
    units: int | None = None,
    layers: int | Sequence[int] | None = None,
) -> Encoder:
    """The encoder with the `heads` heads and `units` feed-forward units left in each layer that matter most, and only
    the named `layers`, or so many evenly spaced ones; what is None is left as it is.

    Raises ValueError where none would be left, or more than there are.
    """
    kept = [encoder.layers[at] for at in _places(len(encoder.layers), layers)]
    return encoder._replace(layers=tuple(_units(_heads(layer, heads), units) for layer in kept))


def prune_lstm(network: bilstm.Network, *, hidden: int) -> bilstm.Network:
    """The BiLSTM with the `hidden` channels left in each direction that matter most: their rows of the four gates,
    their columns of the recurrence and their rows of the head, below the maximum and below the mean.

    Raises ValueError where none would be left, or more than there are.
    """
    before = network.forward.recurrent.shape[1]
    # [maximum and mean, directions, hidden, classes], as the poolings lay them side by side.
    head = np.asarray(network.weight).reshape(2, 2, before, -1)
    importance = np.abs(head).sum(axis=(0, 3))
    directions = (network.forward, network.backward)
    best = [
        most(_channels(lstm) + importance[at], hidden, "hidden channels")
        for at, lstm in enumerate(directions)
    ]
    forward, backward = (_narrowed(lstm, kept) for lstm, kept in zip(directions, best, strict=True))
    rows = np.stack([head[:, at, kept] for at, kept in enumerate(best)], axis=1)
    return network._replace(
        forward=forward, backward=backward, weight=rows.reshape(4 * hidden, head.shape[-1])
    )


def row(encoder: Encoder, heads: Mapping[str, Linear], path: Path, **told: Any) -> Row:
    """A pruned encoder exported to `path` and measured. told: further arguments of `models.methods.timing.measured`."""
    kept = sizes(encoder)
    setting = f"{kept['layers']} layers, heads {_each(kept['heads'])}, units {_each(kept['units'])}"
    file = export(encoder, heads, path)
    return measured(file, "prune", setting, parameters=parameters((encoder, dict(heads))), **told)


def lstm_row(network: bilstm.Network, heads: Mapping[str, slice], path: Path, **told: Any) -> Row:
    """A pruned BiLSTM exported to `path` and measured. told: further arguments of `models.methods.timing.measured`."""
    setting = f"hidden {network.forward.recurrent.shape[1]}"
    file = bilstm.export(network, heads, path)
    return measured(file, "prune", setting, parameters=parameters(network), **told)


def most(importance: NDArray[np.floating], count: int, what: str) -> NDArray[np.intp]:
    """Where the `count` largest values are, in their old order. Raises ValueError when there are not so many."""
    if not 0 < count <= len(importance):
        raise ValueError(f"{count} {what} cannot be kept of {len(importance)}; keep 1 to {len(importance)}")
    return np.sort(np.argsort(-importance, kind="stable")[:count])


def _places(there: int, layers: int | Sequence[int] | None) -> list[int]:
    if layers is None:
        return list(range(there))
    if isinstance(layers, int):
        if not 0 < layers <= there:
            raise ValueError(f"{layers} layers cannot be kept of {there}; keep 1 to {there}")
        # The first and the last stay: one reads the words, the other was trained to be read by a head.
        return [int(at) for at in np.linspace(0, there - 1, layers).round()]
    if not layers:
        raise ValueError(f"no layer is named; name some of 0 to {there - 1}, or None to keep all of them")
    if strange := [at for at in layers if not 0 <= at < there]:
        raise ValueError(f"layer {strange[0]} is not there: the encoder has the layers 0 to {there - 1}")
    return list(layers)


def _heads(layer: Layer, count: int | None) -> Layer:
    if count is None:
        return layer
    parts = (layer.query, layer.key, layer.value)
    importance = np.abs(np.asarray(layer.output.weight)).sum(axis=(1, 2))
    for part in parts:
        importance = importance + np.abs(np.asarray(part.weight)).sum(axis=(0, 2))
    best = most(importance, count, "heads")
    query, key, value = (Linear(part.weight[:, best], part.bias[best]) for part in parts)
    output = Linear(layer.output.weight[best], layer.output.bias)
    return layer._replace(query=query, key=key, value=value, output=output)


def _units(layer: Layer, count: int | None) -> Layer:
    if count is None:
        return layer
    into, out = (np.abs(np.asarray(part.weight)) for part in (layer.up, layer.down))
    best = most(into.sum(axis=0) + out.sum(axis=1), count, "units")
    return layer._replace(
        up=Linear(layer.up.weight[:, best], layer.up.bias[best]),
        down=Linear(layer.down.weight[best], layer.down.bias),
    )


def _channels(lstm: bilstm.Lstm) -> NDArray[np.floating]:
    """Importance [hidden] of a direction's channels within it: the rows of their gates, and who listens to them."""
    hidden = lstm.recurrent.shape[1]
    gates = np.abs(np.concatenate([lstm.kernel, lstm.recurrent], axis=1)).reshape(4, hidden, -1)
    heard = np.abs(np.asarray(lstm.recurrent)).sum(axis=0)
    return np.asarray(heard + gates.sum(axis=(0, 2)))


def _narrowed(lstm: bilstm.Lstm, kept: NDArray[np.intp]) -> bilstm.Lstm:
    hidden = lstm.recurrent.shape[1]
    rows = (np.arange(4)[:, None] * hidden + kept).reshape(-1)
    return bilstm.Lstm(lstm.kernel[rows], lstm.recurrent[rows][:, kept], lstm.bias[rows])


def _each(counts: Sequence[int]) -> str:
    """One number where all layers have the same."""
    return str(counts[0]) if len(set(counts)) == 1 else ", ".join(map(str, counts))
