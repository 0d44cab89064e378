"""Sparse attention: the file bars what training bars, whether sentences are longer than k or not."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

jax = pytest.importorskip("jax", reason="training needs the lock `train`", exc_type=ImportError)

from models.methods.sparse import Timing, row, timings  # noqa: E402 (they need JAX)
from models.minilm import export, network  # noqa: E402
from tests.unit.models.encoders import random_encoder, random_head  # noqa: E402

FEATURES, VOCABULARY, LONGEST, LAYERS = 24, 50, 48, 2
RANDOM = np.random.default_rng(3)
LENGTHS = np.array([40, 33, 32, 31, 7, 1])
IDS = np.where(np.arange(40) < LENGTHS[:, None], RANDOM.integers(1, VOCABULARY, (6, 40)), 0)


def made() -> network.Encoder:
    return random_encoder(
        vocabulary=VOCABULARY, longest=LONGEST, features=FEATURES, heads=3, size=8, units=40, layers=LAYERS,
        spread=0.3,
    )  # fmt: skip


@cache
def in_jax(top_k: int) -> Any:
    answer = jax.jit(network.logits, static_argnames="top_k")
    return np.asarray(answer(network.Network(made(), random_head(FEATURES)), IDS, LENGTHS, top_k=top_k))


def in_onnx(path: Path, top_k: int, ids: Any = IDS, lengths: Any = LENGTHS, **form: Any) -> Any:
    file = export.export(made(), {"logits": random_head(FEATURES)}, path / "m.onnx", top_k=top_k, **form)
    return ort.InferenceSession(str(file)).run(["logits"], {"ids": ids, "lengths": lengths})[0]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("top_k", [1, 4, 32])
def test_the_file_attends_to_what_training_attends_to(tmp_path: Path, top_k: int, fused: bool) -> None:
    found = in_onnx(tmp_path, top_k, fused=fused)
    np.testing.assert_allclose(found, in_jax(top_k), atol=1e-5)


def test_the_best_k_are_another_function_only_where_there_are_more(tmp_path: Path) -> None:
    dense, sparse = in_onnx(tmp_path, 0), in_onnx(tmp_path, 32)
    changed = np.abs(dense - sparse).max(axis=1)
    # Longer than k: the first two. 33 tokens lose the worst one of each position.
    assert (changed[:2] > 1e-4).all()
    np.testing.assert_allclose(sparse[2:], dense[2:], atol=1e-5)
    np.testing.assert_array_equal(in_onnx(tmp_path, LONGEST), dense)


def test_padding_is_never_among_the_best(tmp_path: Path) -> None:
    together = in_onnx(tmp_path, 4)
    for at, length in enumerate(LENGTHS):
        alone = in_onnx(tmp_path, 4, IDS[at : at + 1, :length], LENGTHS[at : at + 1])
        np.testing.assert_allclose(alone[0], together[at], atol=1e-5)


def test_only_a_sparse_file_chooses(tmp_path: Path) -> None:
    def choosing(top_k: int) -> int:
        file = export.export(made(), {"logits": random_head(FEATURES)}, tmp_path / "m.onnx", top_k=top_k)
        return sum(node.op_type == "TopK" for node in onnx.load(str(file)).graph.node)

    assert (choosing(0), choosing(32)) == (0, LAYERS)


def test_both_are_timed_at_each_length(tmp_path: Path) -> None:
    found = timings(made(), {"logits": random_head(FEATURES)}, tmp_path, top_k=8, tokens=(8, 16))
    assert [timing.tokens for timing in found] == [8, 16]
    assert all(timing.dense_ms > 0 and timing.sparse_ms > 0 for timing in found)
    assert Timing(8, 2.0, 3.0).times == 1.5
    measured = row(
        made(), {"logits": random_head(FEATURES)}, tmp_path / "sparse.onnx", top_k=8, tokens=16, vocabulary=VOCABULARY,
        against=tmp_path / "dense.onnx",
    )  # fmt: skip
    assert (measured.method, measured.setting) == ("sparse", "k=8")
    assert measured.note.startswith("16 tokens; ")
    assert (measured.nodes or 0) > len(onnx.load(str(tmp_path / "dense.onnx")).graph.node)


def test_what_cannot_be_attended_to_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="top_k is -1"):
        export.export(made(), {"logits": random_head(FEATURES)}, tmp_path / "m.onnx", top_k=-1)
    assert not (tmp_path / "m.onnx").exists()
    with pytest.raises(ValueError, match="128 tokens are more than the encoder's 48 positions"):
        timings(made(), {"logits": random_head(FEATURES)}, tmp_path)
    with pytest.raises(ValueError, match="top_k is 0"):
        row(made(), {"logits": random_head(FEATURES)}, tmp_path / "m.onnx", top_k=0, tokens=8)
