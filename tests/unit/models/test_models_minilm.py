"""The encoder: JAX and ONNX are one function, padding and neighbours have no say, sizes follow from the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

jax = pytest.importorskip("jax", reason="training needs the lock `train`", exc_type=ImportError)

from models.minilm import export, network  # noqa: E402 (they need JAX)
from tests.unit.models.encoders import random_encoder  # noqa: E402

FEATURES, HEADS, UNITS, VOCABULARY, LONGEST = 24, 3, 40, 50, 16


def small(layers: int = 2, heads: int = HEADS) -> network.Network:
    encoder = random_encoder(
        vocabulary=VOCABULARY, longest=LONGEST, features=FEATURES, heads=heads, size=FEATURES // HEADS, units=UNITS,
        layers=layers, spread=0.3,
    )  # fmt: skip
    random = np.random.default_rng(8)
    weight, bias = (random.normal(0, 0.3, shape).astype(np.float32) for shape in ((FEATURES, 5), (5,)))
    return network.Network(encoder, network.Linear(weight, bias))


def padded(rows: list[list[int]], steps: int) -> tuple[Any, Any]:
    ids = np.zeros((len(rows), steps), np.int64)
    for at, row in enumerate(rows):
        ids[at, : len(row)] = row
    return ids, np.array([len(row) for row in rows], np.int64)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> ort.InferenceSession:
    made = small()
    path = export.export(made.encoder, {"logits": made.head}, tmp_path_factory.mktemp("onnx") / "m.onnx")
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])


ROWS = [[1, 2, 3], [4], [7, 8, 9, 10, 11, 12, 13], [49, 48, 1, 1]]


@pytest.mark.parametrize("steps", [7, 12])
def test_the_file_computes_what_was_trained(session: ort.InferenceSession, steps: int) -> None:
    made = small()
    ids, lengths = padded(ROWS, steps)
    logits, embedding = session.run(["logits", "embedding"], {"ids": ids, "lengths": lengths})
    np.testing.assert_allclose(logits, network.logits(made, ids, lengths), atol=1e-5)
    pooled = np.asarray(network.pool(network.encode(made.encoder, ids, lengths), lengths))
    np.testing.assert_allclose(embedding, pooled / np.linalg.norm(pooled, axis=1, keepdims=True), atol=1e-5)


def test_padding_and_neighbours_have_no_say(session: ort.InferenceSession) -> None:
    ids, lengths = padded(ROWS, 16)
    together = session.run(["logits"], {"ids": ids, "lengths": lengths})[0]
    ids[0, 3:] = 42  # what stands behind an item's end
    again = session.run(["logits"], {"ids": ids, "lengths": lengths})[0]
    np.testing.assert_allclose(together, again, atol=1e-6)
    for at, row in enumerate(ROWS):
        one, length = padded([row], len(row))
        alone = session.run(["logits"], {"ids": one, "lengths": length})[0]
        np.testing.assert_allclose(alone[0], together[at], atol=1e-5)


def test_an_array_that_occurs_twice_counts_once() -> None:
    encoder = small(layers=1).encoder
    twice = encoder._replace(layers=encoder.layers * 2)
    assert network.sizes(twice)["parameters"] == network.sizes(encoder)["parameters"]
    assert network.sizes(small(layers=2).encoder)["parameters"] > network.sizes(encoder)["parameters"]


def test_attention_to_the_best_k_is_all_attention_when_k_is_the_length() -> None:
    made = small()
    ids, lengths = padded(ROWS, 7)
    whole = np.asarray(network.logits(made, ids, lengths))
    np.testing.assert_allclose(network.logits(made, ids, lengths, top_k=7), whole, atol=1e-5)
    assert np.abs(np.asarray(network.logits(made, ids, lengths, top_k=1)) - whole).max() > 1e-2


def test_pruned_shapes_are_exported_as_they_are(tmp_path: Path) -> None:
    made = small(heads=2)
    path = export.export(made.encoder, {"logits": made.head}, tmp_path / "m.onnx")
    ids, lengths = padded(ROWS, 7)
    logits = ort.InferenceSession(str(path)).run(["logits"], {"ids": ids, "lengths": lengths})[0]
    np.testing.assert_allclose(logits, network.logits(made, ids, lengths), atol=1e-5)
    assert network.sizes(made.encoder)["heads"] == [2, 2]
    full = export.export(small().encoder, {"logits": made.head}, tmp_path / "full.onnx")
    assert path.stat().st_size < full.stat().st_size
