"""Cross-layer weight sharing: layers of a group are one layer that runs several times.

Lan et al. 2020 ("ALBERT: A Lite BERT for Self-supervised Learning of Language Representations"). The file and what
training moves shrink; what is computed does not. ALBERT is trained so from the start; an encoder that was not is
another function afterwards, and getting the accuracy back is the training's part:

    shared = share(encoder, [(0, 1, 2), (3, 4, 5)])
    tree, order = pack(shared)                              # what an optimiser sees: two layers
    loss = lambda tree: ...encode(unpack(tree, order), ...)  # inside jit: six
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.methods.row import Row
from models.methods.timing import measured
from models.minilm.export import export
from models.minilm.network import Encoder, Layer, Linear, parameters

Order = tuple[int, ...]
"""For each place in the encoder, which of the distinct layers runs there."""


def share(encoder: Encoder, groups: Sequence[Sequence[int]]) -> Encoder:
    """The encoder in which all places of a group hold one layer, the one named first in it.

    Raises ValueError when the groups do not name each layer exactly once.
    """
    named = [place for group in groups for place in group]
    there = range(len(encoder.layers))
    if strange := [place for place in named if place not in there]:
        raise ValueError(f"layer {strange[0]} is not there: the encoder has the layers 0 to {there[-1]}")
    for place in there:
        if named.count(place) != 1:
            raise ValueError(
                f"layer {place} is named {named.count(place)} times; name each layer in one group, "
                "alone in it to keep it as it is"
            )
    shared = {place: encoder.layers[group[0]] for group in groups for place in group}
    return encoder._replace(layers=tuple(shared[place] for place in there))


def pack(encoder: Encoder) -> tuple[Encoder, Order]:
    """What training moves: the encoder with each distinct layer once, and the order in which they run.

    Layers are told apart as objects: pack what `share` or `unpack` gave, before a tree function copies it.
    """
    distinct: dict[int, Layer] = {}
    for layer in encoder.layers:
        distinct.setdefault(id(layer), layer)
    numbers = {key: number for number, key in enumerate(distinct)}
    order = tuple(numbers[id(layer)] for layer in encoder.layers)
    return encoder._replace(layers=tuple(distinct.values())), order


def unpack(packed: Encoder, order: Order) -> Encoder:
    """The encoder that runs, from what `pack` gave; its gradient is the sum over a layer's places."""
    return packed._replace(layers=tuple(packed.layers[number] for number in order))


def row(encoder: Encoder, heads: Mapping[str, Linear], path: Path, **told: Any) -> Row:
    """A shared encoder exported to `path` and measured. told: further arguments of `models.methods.timing.measured`."""
    packed, order = pack(encoder)
    setting = f"{len(packed.layers)} layers of their own in {len(order)} places ({' '.join(map(str, order))})"
    file = export(encoder, heads, path)
    return measured(file, "share", setting, parameters=parameters((encoder, dict(heads))), **told)
