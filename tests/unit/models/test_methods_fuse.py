"""Fusion: ONNX Runtime's own operators compute what training computes, and what quantises still finds its weights."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

jax = pytest.importorskip("jax", reason="training needs the lock `train`", exc_type=ImportError)

from models.methods.fuse import compare, row  # noqa: E402 (they need JAX)
from models.methods.prune import prune  # noqa: E402
from models.methods.quantise import int8  # noqa: E402
from models.minilm import export, network  # noqa: E402
from tests.unit.models.encoders import random_encoder  # noqa: E402

FEATURES, VOCABULARY, LAYERS = 24, 50, 2
LENGTHS = np.array([9, 1, 5, 7])


def ids(steps: int) -> Any:
    """The four sentences, padded to `steps` tokens."""
    words = np.random.default_rng(4).integers(1, VOCABULARY, (4, 16))[:, :steps]
    return np.where(np.arange(steps) < LENGTHS[:, None], words, 0)


def made() -> network.Encoder:
    return random_encoder(
        vocabulary=VOCABULARY,
        longest=16,
        features=FEATURES,
        heads=3,
        size=8,
        units=40,
        layers=LAYERS,
        spread=0.3,
    )


def head() -> network.Linear:
    weight, bias = (np.random.default_rng(8).normal(0, 0.3, shape) for shape in ((FEATURES, 5), (5,)))
    return network.Linear(weight.astype(np.float32), bias.astype(np.float32))


@cache
def trained(heads: int, steps: int) -> Any:
    """The mean of the valid states, in JAX."""
    states = jax.jit(network.encode)(prune(made(), heads=heads), ids(steps), LENGTHS)
    return np.asarray(network.pool(states, LENGTHS))


def opened(path: Path, optimised: bool = True) -> ort.InferenceSession:
    options = ort.SessionOptions()
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(str(path), options)


@pytest.mark.parametrize("optimised", [False, True])
@pytest.mark.parametrize("heads", [3, 2])
@pytest.mark.parametrize("steps", [9, 16])
def test_the_fused_file_computes_what_was_trained(
    tmp_path: Path, steps: int, heads: int, optimised: bool
) -> None:
    encoder = prune(made(), heads=heads)
    file = export.export(encoder, {"logits": head()}, tmp_path / "m.onnx", fused=True)
    feed = {"ids": ids(steps), "lengths": LENGTHS}
    logits, embedding = opened(file, optimised).run(["logits", "embedding"], feed)
    pooled = trained(heads, steps)
    np.testing.assert_allclose(logits, pooled @ head().weight + head().bias, atol=1e-5)
    np.testing.assert_allclose(embedding, pooled / np.linalg.norm(pooled, axis=1, keepdims=True), atol=1e-5)


def test_padding_and_neighbours_have_no_say(tmp_path: Path) -> None:
    session = opened(export.export(made(), {"logits": head()}, tmp_path / "m.onnx", fused=True))
    rows = ids(16)
    together = session.run(["logits"], {"ids": rows, "lengths": LENGTHS})[0]
    behind = np.where(np.arange(16) < LENGTHS[:, None], rows, 42)
    again = session.run(["logits"], {"ids": behind, "lengths": LENGTHS})[0]
    np.testing.assert_allclose(again, together, atol=1e-6)
    for at, length in enumerate(LENGTHS):
        alone = session.run(["logits"], {"ids": rows[at : at + 1, :length], "lengths": [length]})[0]
        np.testing.assert_allclose(alone[0], together[at], atol=1e-5)
    cut = session.run(["logits"], {"ids": rows, "lengths": LENGTHS - (LENGTHS > 1)})[0]
    assert (np.abs(cut - together).max(axis=1) > 1e-3).tolist() == (LENGTHS > 1).tolist()


def test_the_operators_are_there_and_said_only_where_they_were_asked_for(tmp_path: Path) -> None:
    plain, fused = (
        onnx.load(str(export.export(made(), {"logits": head()}, tmp_path / f"{fused}.onnx", fused=fused)))
        for fused in (False, True)
    )
    assert {opset.domain: opset.version for opset in plain.opset_import} == {"": 21}
    assert {opset.domain: opset.version for opset in fused.opset_import} == {"": 21, "com.microsoft": 1}
    assert not [node for node in plain.graph.node if node.domain]
    own = [node.op_type for node in fused.graph.node if node.domain == "com.microsoft"]
    expected = {"MultiHeadAttention": LAYERS, "SkipLayerNormalization": 2 * LAYERS, "BiasGelu": LAYERS}
    assert {name: own.count(name) for name in own} == expected


def test_what_is_quantised_in_parts_is_quantised_fused(tmp_path: Path) -> None:
    codes = []
    for fused in (False, True):
        file = export.export(made(), {"logits": head()}, tmp_path / "fp32.onnx", fused=fused)
        small = onnx.load(str(int8(file, tmp_path / f"{fused}.onnx")))
        codes.append({value.name for value in small.graph.initializer if value.name.endswith("_quantized")})
        opened(tmp_path / f"{fused}.onnx").run(None, {"ids": ids(9), "lengths": LENGTHS})
    assert codes[0] == codes[1]
    assert {"tokens_quantized", "layer1.attention.input.weight_quantized"} <= codes[0]


def test_both_are_measured_with_the_optimiser_off_and_on(tmp_path: Path) -> None:
    found = compare(made(), {"logits": head()}, tmp_path)
    assert [(one.fused, one.optimised) for one in found] == [
        (False, False), (False, True), (True, False), (True, True),
    ]  # fmt: skip
    parts, parts_optimised, fused, _ = found
    assert parts.nodes == parts.nodes_run == parts_optimised.nodes
    assert parts_optimised.nodes_run < parts.nodes
    assert fused.nodes < parts_optimised.nodes_run
    assert all(one.p50_ms > 0 for one in found)


def test_a_row_names_the_domain(tmp_path: Path) -> None:
    heads = {"logits": head()}
    found = row(made(), heads, tmp_path / "fused.onnx", vocabulary=VOCABULARY)
    sparse = row(made(), heads, tmp_path / "sparse.onnx", top_k=4, vocabulary=VOCABULARY)
    assert (found.method, found.setting, sparse.setting) == ("fuse", "com.microsoft", "com.microsoft, k=4")
    assert (found.nodes or 0) < (sparse.nodes or 0)
    assert found.parameters == sparse.parameters == network.parameters((made(), head()))
