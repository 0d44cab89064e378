"""Quantised files: they shrink, answer as before, and say honestly what neighbours in a batch do to an answer."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="training needs the lock `train`", exc_type=ImportError)

import onnxruntime as ort  # noqa: E402

from models import emit  # noqa: E402
from models.intents import measure  # noqa: E402
from models.intents.utterances import Utterance  # noqa: E402
from models.methods import quantise  # noqa: E402

TOKENS, FEATURES, HIDDEN, CLASSES = 400, 64, 32, 8
RANDOM = np.random.default_rng(5)
ROWS = [[int(token) for token in RANDOM.integers(1, TOKENS, length)] for length in RANDOM.integers(1, 12, 64)]


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).normal(0, 0.4, shape).astype(np.float32)


@pytest.fixture(scope="module")
def fp32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bidirectional LSTM over a table of tokens, and a head."""
    graph = emit.Graph("small")
    ids = graph.input("ids", np.int64, ["batch", "tokens"])
    lengths = graph.input("lengths", np.int64, ["batch"])
    first = graph.node("Transpose", [ids], perm=[1, 0])
    x = graph.node("Gather", [graph.constant("table", draw(TOKENS, FEATURES)), first])
    weights = [
        emit.LstmWeights(
            draw(4 * HIDDEN, FEATURES), draw(4 * HIDDEN, HIDDEN + at)[:, :HIDDEN], draw(4 * HIDDEN)
        )
        for at in range(2)
    ]
    out = emit.lstm(graph, x, weights, lengths=lengths)
    pooled = emit.last_features(graph, out)
    scores = emit.linear(graph, pooled, draw(2 * HIDDEN, CLASSES), draw(CLASSES), name="head")
    graph.output(scores, "logits", np.float32, ["batch", CLASSES])
    return emit.save(graph, tmp_path_factory.mktemp("fp32") / "fp32.onnx")


def alone(path: Path) -> np.ndarray:
    session = measure.open_session(path)
    return np.concatenate([measure.run(session, [row]) for row in ROWS])


def operators(path: Path, folder: Path) -> Counter[str]:
    """What is left to run after ONNX Runtime has optimised the graph."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node)


@pytest.mark.parametrize("kind", quantise.KINDS)
def test_every_kind_is_smaller_and_answers_alike(kind: str, fp32: Path, tmp_path: Path) -> None:
    made = quantise.KINDS[kind](fp32, tmp_path / "small.onnx")
    assert made.stat().st_size < fp32.stat().st_size
    before, after = alone(fp32), alone(made)
    assert not np.array_equal(before, after)
    # 4 bits: steps of a seventh of the largest weight of a block; 8 bits: of a 127th, or a 64th.
    bound = 0.7 if kind.endswith("int4") else 0.15
    assert np.abs(before - after).max() < bound * before.std()


def test_int8_weights_are_a_quarter_and_cost_nothing_at_run_time(fp32: Path, tmp_path: Path) -> None:
    made = quantise.weights_int8(fp32, tmp_path / "w.onnx")
    assert 0.25 < made.stat().st_size / fp32.stat().st_size < 0.32
    assert operators(made, tmp_path) == operators(fp32, tmp_path)
    # The table that is quantised as ONNX Runtime does it is a node more in every run.
    table = quantise.table_int8(fp32, tmp_path / "t.onnx")
    assert operators(table, tmp_path) - operators(fp32, tmp_path) == Counter({"DequantizeLinear": 1})


def test_neighbours_have_no_say_where_activations_are_floats(fp32: Path, tmp_path: Path) -> None:
    for kind in ("weights-int8", "int8-table", "int4"):
        session = measure.open_session(quantise.KINDS[kind](fp32, tmp_path / f"{kind}.onnx"))
        assert measure.leak(session, ROWS).logits < 1e-5, kind
    dynamic = measure.open_session(quantise.int8_dynamic_lstm(fp32, tmp_path / "dynamic.onnx"))
    assert measure.leak(dynamic, ROWS).logits > 1e-3


def test_what_is_small_or_int8_already_stays(fp32: Path, tmp_path: Path) -> None:
    made = quantise.weights_int8(fp32, tmp_path / "w.onnx")
    kept = {tensor.name for tensor in onnx.load(made).graph.initializer}
    assert "head.bias" in kept
    assert "head.weight" not in kept
    again = quantise.weights_int8(made, tmp_path / "again.onnx")
    np.testing.assert_array_equal(alone(made), alone(again))


def test_codes_are_the_nearest_and_an_empty_column_is_no_division_by_zero() -> None:
    values = draw(50, 7)
    values[:, 3] = 0
    codes, scales = quantise.coded(values, axis=0)
    assert np.abs(codes.astype(int)).max() == 127
    assert np.all(np.abs(codes * scales - values) <= scales / 2 * 1.0001)
    assert not np.any(codes[:, 3])
    assert np.abs(codes.astype(int)[:, :3]).max(axis=0).tolist() == [127, 127, 127]


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_gemm_has_a_scale_for_each_of_its_outputs(transposed: int, tmp_path: Path) -> None:
    graph = emit.Graph("gemm")
    x = graph.input("x", np.float32, ["batch", 32])
    weight = draw(32, 16) * np.logspace(-3, 1, 16, dtype=np.float32)
    stored = graph.constant("weight", weight.T if transposed else weight)
    graph.output(graph.node("Gemm", [x, stored], transB=transposed), "y", np.float32, ["batch", 16])
    path = emit.save(graph, tmp_path / "g.onnx")
    made = quantise.weights_int8(path, tmp_path / "w.onnx")
    given = {"x": draw(4, 32)}
    before, after = (measure.open_session(p).run(None, given)[0] for p in (path, made))
    # One scale for all would leave nothing of the smallest column.
    assert np.abs(after - before).max(axis=0)[0] < 0.05 * np.abs(before[:, 0]).max()


def test_the_seven_bit_range_is_kept_to_and_the_full_one_is_used(fp32: Path, tmp_path: Path) -> None:
    largest = {}
    for kind in ("int8", "int8-full-range"):
        path = quantise.KINDS[kind](fp32, tmp_path / f"{kind}.onnx")
        held = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
        largest[kind] = int(np.abs(held["head.weight_quantized"].astype(int)).max())
    assert largest == {"int8": 64, "int8-full-range": 127}


def valid(labels: list[str]) -> quantise.Valid:
    """Sentences that are what the FP32 model takes them for, but for the first ten."""
    items = [Utterance(f"sentence {at}", label) for at, label in enumerate(labels)]
    return quantise.Valid("small", ROWS, items, [f"c{at}" for at in range(CLASSES)])


def test_an_ablation_measures_what_it_says(fp32: Path, tmp_path: Path) -> None:
    best = alone(fp32).argmax(axis=1)
    labels = [f"c{(at + 1) % CLASSES if number < 16 else at}" for number, at in enumerate(best)]
    kinds = {name: quantise.KINDS[name] for name in ("weights-int8", "int8-lstm")}
    rows = quantise.ablate(fp32, kinds, valid(labels), tmp_path, parameters=7)
    assert [(row.method, row.setting) for row in rows] == [
        ("unchanged", "fp32"),
        ("quantise", "weights-int8"),
        ("quantise", "int8-lstm"),
    ]
    assert rows[0].accuracy == {"small": 0.75}
    assert abs(rows[1].accuracy["small"] - 0.75) <= 2 / 64
    assert rows[0].size_mb == fp32.stat().st_size / 1e6
    assert rows[1].size_mb == (tmp_path / "weights-int8.onnx").stat().st_size / 1e6
    assert "1.00 times the p50 of fp32" in rows[0].note
    assert {row.parameters for row in rows} == {7}


def test_an_ablation_on_top_of_other_methods_says_so(fp32: Path, tmp_path: Path) -> None:
    labels = [f"c{at}" for at in alone(fp32).argmax(axis=1)]
    rows = quantise.ablate(
        fp32, {"weights-int8": quantise.weights_int8}, valid(labels), tmp_path, stacked=["prune"]
    )
    assert [(row.method, row.stacked) for row in rows] == [("quantise", ("prune",))]


def test_an_ablation_of_nothing_is_refused(fp32: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="0 kinds to measure on 64 sentences of 'small'"):
        quantise.ablate(fp32, {}, valid(["c0"] * len(ROWS)), tmp_path)


def test_attention_in_8_bits_and_the_rest_in_4(fp32: Path, tmp_path: Path) -> None:
    pytest.importorskip("jax", reason="training needs the lock `train`")
    from models.minilm.export import export  # noqa: PLC0415
    from tests.unit.models.encoders import random_encoder, random_head  # noqa: PLC0415

    encoder = random_encoder(
        vocabulary=TOKENS, longest=16, features=128, heads=4, size=32, units=256, layers=2, spread=0.1
    )
    plain = export(encoder, {"logits": random_head(128)}, tmp_path / "plain.onnx")
    made = quantise.int8_attention_int4(plain, tmp_path / "made.onnx")
    nodes = Counter(node.op_type for node in onnx.load(made).graph.node)
    # Two products of attention a layer; two of the rest a layer, and the head; tokens and positions.
    assert (nodes["MatMulInteger"], nodes["MatMulNBits"], nodes["GatherBlockQuantized"]) == (4, 5, 2)
    before, after = alone(plain), alone(made)
    assert np.abs(before - after).max() < 0.7 * before.std()
    # Without attention there is nothing to keep in 8 bits.
    lstm = quantise.int8_attention_int4(fp32, tmp_path / "lstm.onnx")
    assert "MatMulInteger" not in {node.op_type for node in onnx.load(lstm).graph.node}
