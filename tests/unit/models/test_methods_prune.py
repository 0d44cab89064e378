"""Pruning: what is removed gives what zeroing it gives, the least important goes, and the exported shapes shrink."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

jax = pytest.importorskip("jax", reason="training needs the lock `train`", exc_type=ImportError)

from models.intents import network as bilstm  # noqa: E402 (they need JAX)
from models.methods.prune import lstm_row, prune, prune_lstm, row  # noqa: E402
from models.minilm import export, network  # noqa: E402
from tests.unit.models.encoders import random_encoder, random_head  # noqa: E402

FEATURES, HEADS, SIZE, UNITS, VOCABULARY = 24, 3, 8, 40, 50
IDS = np.random.default_rng(3).integers(1, VOCABULARY, (4, 9))
LENGTHS = np.array([9, 1, 5, 7])


def made(layers: int = 2) -> network.Encoder:
    return random_encoder(
        vocabulary=VOCABULARY, longest=16, features=FEATURES, heads=HEADS, size=SIZE, units=UNITS, layers=layers,
        spread=0.3,
    )  # fmt: skip


def answers(encoder: network.Encoder) -> Any:
    return np.asarray(jax.jit(network.logits)(network.Network(encoder, random_head(FEATURES)), IDS, LENGTHS))


def shapes(path: Path) -> dict[str, list[int]]:
    return {value.name: list(value.dims) for value in onnx.load(str(path)).graph.initializer}


def zeroed(layer: network.Layer, heads: int, units: int) -> network.Layer:
    """The layer with the output of its least important heads and units set to zero, nothing removed."""
    of_head = [
        sum(float(np.abs(part.weight[:, at]).sum()) for part in (layer.query, layer.key, layer.value))
        + float(np.abs(layer.output.weight[at]).sum())
        for at in range(HEADS)
    ]
    of_unit = [
        float(np.abs(layer.up.weight[:, at]).sum() + np.abs(layer.down.weight[at]).sum())
        for at in range(UNITS)
    ]
    output, down = layer.output.weight.copy(), layer.down.weight.copy()
    output[np.argsort(of_head)[: HEADS - heads]] = 0
    down[np.argsort(of_unit)[: UNITS - units]] = 0
    return layer._replace(output=layer.output._replace(weight=output), down=layer.down._replace(weight=down))


def test_removing_heads_and_units_is_setting_the_least_important_to_zero() -> None:
    encoder = made()
    masked = encoder._replace(layers=tuple(zeroed(layer, 2, 25) for layer in encoder.layers))
    np.testing.assert_allclose(answers(prune(encoder, heads=2, units=25)), answers(masked), atol=1e-5)
    assert np.abs(answers(masked) - answers(encoder)).max() > 1e-2
    assert np.abs(answers(prune(encoder, heads=1, units=25)) - answers(masked)).max() > 1e-2


def test_nothing_is_left_out_where_nothing_is_said() -> None:
    np.testing.assert_array_equal(answers(prune(made(), heads=HEADS, units=UNITS, layers=2)), answers(made()))
    np.testing.assert_array_equal(answers(prune(made())), answers(made()))


@pytest.mark.parametrize(("layers", "kept"), [(3, (0, 2, 4)), (2, (0, 4)), (1, (0,)), ((3, 1), (3, 1))])
def test_layers_are_the_named_or_evenly_spaced_ones(layers: Any, kept: tuple[int, ...]) -> None:
    encoder = made(5)
    found = prune(encoder, layers=layers).layers
    assert [id(layer) for layer in found] == [id(encoder.layers[at]) for at in kept]


def test_the_exported_shapes_shrink_and_compute_the_same(tmp_path: Path) -> None:
    pruned = prune(made(3), heads=2, units=25, layers=2)
    path = export.export(pruned, {"logits": random_head(FEATURES)}, tmp_path / "pruned.onnx")
    found = shapes(path)
    assert found["layer1.attention.input.weight"] == [FEATURES, 3 * 2 * SIZE]
    assert found["layer1.attention.output.weight"] == [2 * SIZE, FEATURES]
    assert (found["layer1.up.weight"], found["layer1.up.bias"]) == ([FEATURES, 25], [25])
    assert found["layer1.down.weight"] == [25, FEATURES]
    assert "layer2.up.weight" not in found
    logits = ort.InferenceSession(str(path)).run(["logits"], {"ids": IDS, "lengths": LENGTHS})[0]
    np.testing.assert_allclose(logits, answers(pruned), atol=1e-5)


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ({"heads": 0}, "0 heads cannot be kept of 3; keep 1 to 3"),
        ({"heads": 4}, "4 heads cannot be kept of 3"),
        ({"units": 0}, "0 units cannot be kept of 40"),
        ({"units": 41}, "41 units cannot be kept of 40"),
        ({"layers": 0}, "0 layers cannot be kept of 2"),
        ({"layers": 3}, "3 layers cannot be kept of 2"),
        ({"layers": ()}, "no layer is named"),
        ({"layers": (0, 2)}, "layer 2 is not there: the encoder has the layers 0 to 1"),
    ],
)
def test_nothing_and_more_than_there_is_are_refused(kept: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prune(made(), **kept)


def lstm() -> bilstm.Network:
    return bilstm.init(jax.random.key(1), tokens=VOCABULARY, classes=6, features=10, hidden=12)


def lstm_answers(network: bilstm.Network) -> Any:
    return np.asarray(jax.jit(bilstm.logits)(network, IDS, LENGTHS))


def lstm_zeroed(network: bilstm.Network, hidden: int) -> bilstm.Network:
    """Channels whose gates get nothing but zeros: their state stays zero, and so does what they add anywhere."""
    before = network.forward.recurrent.shape[1]
    directions = []
    for at, lstm in enumerate((network.forward, network.backward)):
        kernel, recurrent, bias = (np.array(part) for part in lstm)
        importance = np.zeros(before)
        for channel in range(before):
            rows = [gate * before + channel for gate in range(4)]
            of_head = [pooling * 2 * before + at * before + channel for pooling in range(2)]
            importance[channel] = (
                np.abs(kernel[rows]).sum() + np.abs(recurrent[rows]).sum() + np.abs(recurrent[:, channel]).sum()
                + np.abs(np.asarray(network.weight)[of_head]).sum()
            )  # fmt: skip
        for channel in np.argsort(importance)[: before - hidden]:
            rows = [gate * before + channel for gate in range(4)]
            kernel[rows], recurrent[rows], bias[rows] = 0, 0, 0
        directions.append(bilstm.Lstm(kernel, recurrent, bias))
    return network._replace(forward=directions[0], backward=directions[1])


def test_removing_channels_is_setting_the_least_important_to_zero(tmp_path: Path) -> None:
    network = lstm()
    pruned, masked = prune_lstm(network, hidden=7), lstm_zeroed(network, 7)
    np.testing.assert_allclose(lstm_answers(pruned), lstm_answers(masked), atol=1e-5)
    assert np.abs(lstm_answers(masked) - lstm_answers(network)).max() > 1e-3
    np.testing.assert_array_equal(lstm_answers(prune_lstm(network, hidden=12)), lstm_answers(network))

    path = bilstm.export(pruned, {"logits": slice(0, 6)}, tmp_path / "pruned.onnx")
    found = shapes(path)
    assert (found["lstm.W"], found["lstm.R"]) == ([2, 4 * 7, 10], [2, 4 * 7, 7])
    assert found["head.logits.weight"] == [4 * 7, 6]
    logits = ort.InferenceSession(str(path)).run(["logits"], {"ids": IDS, "lengths": LENGTHS})[0]
    np.testing.assert_allclose(logits, lstm_answers(pruned), atol=1e-5)


@pytest.mark.parametrize("hidden", [0, 13])
def test_no_channels_and_more_than_there_are_are_refused(hidden: int) -> None:
    with pytest.raises(ValueError, match=f"{hidden} hidden channels cannot be kept of 12; keep 1 to 12"):
        prune_lstm(lstm(), hidden=hidden)


def test_rows_tell_what_was_kept_and_against_what_it_was_timed(tmp_path: Path) -> None:
    whole = export.export(made(), {"logits": random_head(FEATURES)}, tmp_path / "whole.onnx")
    found = row(
        prune(made(), heads=1, units=10), {"logits": random_head(FEATURES)}, tmp_path / "pruned.onnx",
        against=whole, vocabulary=VOCABULARY, stacked=("distil",),
    )  # fmt: skip
    assert (found.method, found.setting, found.stacked) == (
        "prune",
        "2 layers, heads 1, units 10",
        ("distil",),
    )
    assert found.size_mb < whole.stat().st_size / 1e6
    assert found.parameters == network.parameters((prune(made(), heads=1, units=10), random_head(FEATURES)))
    assert "times the p50 of whole.onnx" in found.note
    small, large = (
        lstm_row(one, {"logits": slice(0, 6)}, tmp_path / "lstm.onnx", vocabulary=VOCABULARY)
        for one in (prune_lstm(lstm(), hidden=4), lstm())
    )
    assert small.size_mb < large.size_mb
    assert (small.parameters or 0) < (large.parameters or 0)
    assert (small.setting, large.setting) == ("hidden 4", "hidden 12")
