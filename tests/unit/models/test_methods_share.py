"""Sharing: one set of weights in training, in the count and in the file, and several places where it runs."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

jax = pytest.importorskip("jax", reason="training needs the lock `train`", exc_type=ImportError)

from models.methods.quantise import int8  # noqa: E402
from models.methods.share import pack, row, share, unpack  # noqa: E402 (they need JAX)
from models.minilm import export, network  # noqa: E402
from tests.unit.models.encoders import random_encoder, random_head  # noqa: E402

FEATURES, VOCABULARY = 24, 50
GROUPS = [(0, 1), (3, 2)]
IDS = np.random.default_rng(3).integers(1, VOCABULARY, (4, 9))
LENGTHS = np.array([9, 1, 5, 7])


def made(layers: int = 4) -> network.Encoder:
    return random_encoder(
        vocabulary=VOCABULARY,
        longest=16,
        features=FEATURES,
        heads=3,
        size=8,
        units=40,
        layers=layers,
        spread=0.3,
    )


def answers(encoder: network.Encoder) -> Any:
    return jax.jit(network.logits)(network.Network(encoder, random_head(FEATURES)), IDS, LENGTHS)


def test_a_group_holds_the_layer_that_is_named_first() -> None:
    encoder = made()
    shared = share(encoder, GROUPS).layers
    assert [id(layer) for layer in shared] == [id(encoder.layers[at]) for at in (0, 0, 3, 3)]
    alone = share(encoder, [(0,), (1,), (2,), (3,)])
    np.testing.assert_array_equal(answers(alone), answers(encoder))
    assert np.abs(np.asarray(answers(share(encoder, GROUPS)) - answers(encoder))).max() > 1e-2


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([(0, 1), (2,)], "layer 3 is named 0 times"),
        ([(0, 1), (1, 2, 3)], "layer 1 is named 2 times"),
        ([(0, 1, 2, 3, 4)], "layer 4 is not there: the encoder has the layers 0 to 3"),
        ([], "layer 0 is named 0 times"),
    ],
)
def test_groups_that_leave_a_layer_open_are_refused(groups: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        share(made(), groups)


def test_training_moves_one_set_of_weights_for_all_its_places() -> None:
    shared = share(made(2), [(1, 0)])
    packed, order = pack(shared)
    assert (len(packed.layers), order) == (1, (0, 0))
    assert pack(share(made(), GROUPS))[1] == (0, 0, 1, 1)

    def loss(encoder: network.Encoder) -> Any:
        return (network.logits(network.Network(encoder, random_head(FEATURES)), IDS, LENGTHS) ** 2).sum()

    slope = jax.jit(jax.grad(lambda tree: loss(unpack(tree, order))))(packed)
    of_place = jax.jit(jax.grad(loss))(shared).layers
    summed = of_place[0].up.weight + of_place[1].up.weight
    np.testing.assert_allclose(slope.layers[0].up.weight, summed, rtol=1e-3, atol=1e-3)
    assert min(np.abs(place.up.weight).max() for place in of_place) > 0.1  # the sum is of two

    moved = jax.tree.map(lambda weight, down: weight - 0.01 * down, packed, slope)
    again, order_again = pack(unpack(moved, order))
    assert order_again == order
    assert network.parameters(again) == network.parameters(packed)


def test_parameters_of_shared_layers_count_once() -> None:
    encoder = made()
    of_layer = network.parameters(encoder.layers[0])
    whole = network.sizes(encoder)["parameters"]
    assert network.sizes(share(encoder, GROUPS))["parameters"] == whole - 2 * of_layer
    assert network.sizes(share(encoder, [(2, 0, 1, 3)]))["parameters"] == whole - 3 * of_layer
    assert network.sizes(share(encoder, GROUPS))["layers"] == 4


@pytest.mark.parametrize("fused", [False, True])
def test_the_file_holds_each_shared_weight_once(tmp_path: Path, fused: bool) -> None:
    shared = share(made(), GROUPS)
    # The same numbers in four layers that are objects of their own: nothing to share.
    apart = shared._replace(layers=tuple(copy.deepcopy(layer) for layer in shared.layers))
    small, large = (
        export.export(encoder, {"logits": random_head(FEATURES)}, tmp_path / f"{name}.onnx", fused=fused)
        for name, encoder in (("shared", shared), ("apart", apart))
    )
    saved = 4 * 2 * network.parameters(shared.layers[0])
    assert large.stat().st_size - small.stat().st_size >= saved
    kept = [value.name for value in onnx.load(str(small)).graph.initializer]
    assert [name for name in kept if name.endswith("up.weight")] == ["layer0.up.weight", "layer2.up.weight"]
    feed = {"ids": IDS, "lengths": LENGTHS}
    for file in (small, large):
        logits = ort.InferenceSession(str(file)).run(["logits"], feed)[0]
        np.testing.assert_allclose(logits, answers(shared), atol=1e-5)


def test_each_shared_weight_is_quantised_once(tmp_path: Path) -> None:
    shared = share(made(), GROUPS)
    small = int8(
        export.export(shared, {"logits": random_head(FEATURES)}, tmp_path / "fp32.onnx"),
        tmp_path / "int8.onnx",
    )
    kept = [value.name for value in onnx.load(str(small)).graph.initializer]
    codes = [name for name in kept if name.endswith("up.weight_quantized")]
    assert codes == ["layer0.up.weight_quantized", "layer2.up.weight_quantized"]
    assert "layer0.up.weight" not in kept
    logits = ort.InferenceSession(str(small)).run(["logits"], {"ids": IDS, "lengths": LENGTHS})[0]
    exact = np.asarray(answers(shared))
    assert np.abs(logits - exact).max() < 0.2 * np.abs(exact).max()


def test_a_row_counts_what_is_stored(tmp_path: Path) -> None:
    heads = {"logits": random_head(FEATURES)}
    found = row(share(made(), GROUPS), heads, tmp_path / "shared.onnx", vocabulary=VOCABULARY)
    whole = row(made(), heads, tmp_path / "whole.onnx", vocabulary=VOCABULARY)
    assert found.setting == "2 layers of their own in 4 places (0 0 1 1)"
    assert whole.setting == "4 layers of their own in 4 places (0 1 2 3)"
    assert (whole.parameters or 0) - (found.parameters or 0) == 2 * network.parameters(made().layers[0])
    assert found.size_mb < whole.size_mb
    assert found.nodes == whole.nodes
