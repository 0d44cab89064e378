"""Static INT8: its ranges are those that sentences showed, its scales ONNX Runtime's, its answers nobody else's."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="training needs the lock `train`", exc_type=ImportError)
onnx = pytest.importorskip("onnx", reason="training needs the lock `train`", exc_type=ImportError)

import onnxruntime as ort  # noqa: E402
from onnxruntime.quantization.quant_utils import compute_scale_zp  # noqa: E402

from models.intents import measure, network  # noqa: E402
from models.intents.utterances import Utterance  # noqa: E402
from models.methods import quantise, static  # noqa: E402
from models.minilm import export  # noqa: E402
from models.minilm.network import Linear  # noqa: E402
from tests.unit.models.encoders import random_encoder  # noqa: E402

RANDOM = np.random.default_rng(2)
ROWS = [[int(token) for token in RANDOM.integers(1, 50, length)] for length in RANDOM.integers(1, 13, 96)]
KNOWN, NEW = ROWS[:32], ROWS[32:]


@pytest.fixture(scope="module")
def fp32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder of two layers with a head."""
    encoder = random_encoder(
        vocabulary=50, longest=16, features=32, heads=4, size=8, units=48, layers=2, spread=0.3
    )
    random = np.random.default_rng(8)
    head = Linear(*(random.normal(0, 0.3, shape).astype(np.float32) for shape in ((32, 5), (5,))))
    return export.export(encoder, {"logits": head}, tmp_path_factory.mktemp("fp32") / "fp32.onnx")


@pytest.fixture(scope="module")
def ranges(fp32: Path) -> static.Ranges:
    return static.calibrate(fp32, KNOWN, static.MINMAX)


def alone(path: Path, rows: list[list[int]] = NEW) -> np.ndarray:
    session = measure.open_session(path)
    return np.concatenate([measure.run(session, [row]) for row in rows])


def held(path: Path) -> dict[str, np.ndarray]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


def test_it_is_smaller_answers_alike_and_neighbours_have_no_say(
    fp32: Path, ranges: static.Ranges, tmp_path: Path
) -> None:
    made = static.quantise(fp32, tmp_path / "s.onnx", ranges)
    assert made.stat().st_size < fp32.stat().st_size
    before, after = alone(fp32), alone(made)
    assert 0 < np.abs(before - after).max() < 0.25 * before.std()
    assert measure.leak(measure.open_session(made), NEW).logits < 1e-5
    dynamic = quantise.int8(fp32, tmp_path / "d.onnx")
    assert measure.leak(measure.open_session(dynamic), NEW).logits > 1e-3


def test_ranges_are_what_was_seen(fp32: Path, ranges: static.Ranges, tmp_path: Path) -> None:
    """What goes into the head is the mean of the states, which the file also gives, but for its length."""
    model = onnx.load(fp32)
    weight, given = static.products(model)[-1]
    assert weight == "head.logits.weight"
    model.graph.output.append(onnx.helper.make_tensor_value_info(given, onnx.TensorProto.FLOAT, None))
    onnx.save(model, tmp_path / "watched.onnx")
    session = measure.open_session(tmp_path / "watched.onnx")
    seen = np.concatenate([session.run([given], static.feed(row))[0] for row in KNOWN])
    assert ranges[given] == pytest.approx((seen.min(), seen.max()), abs=1e-5)


@pytest.mark.parametrize("reduce_range", [False, True])
def test_scales_and_zero_points_are_onnx_runtimes(
    reduce_range: bool, fp32: Path, ranges: static.Ranges, tmp_path: Path
) -> None:
    made = static.quantise(fp32, tmp_path / "s.onnx", ranges, reduce_range=reduce_range)
    there, before = held(made), held(fp32)
    found = static.products(onnx.load(fp32))
    assert len(found) == 9  # four in each layer, and the head
    for weight, given in found:
        low, high = (np.float32(end) for end in ranges[given])
        zero, scale = compute_scale_zp(low, high, np.array(0, np.uint8), np.array(255, np.uint8))
        assert there[f"{given}_scale"] == scale
        assert there[f"{given}_zero_point"] == zero
        assert there[f"{given}_zero_point"].dtype == np.uint8
        most = np.abs(before[weight]).max(axis=0)
        np.testing.assert_allclose(there[f"{weight}_scale"], most / (64 if reduce_range else 127), rtol=1e-6)
        assert not np.any(there[f"{weight}_zero_point"])


def test_only_products_take_what_is_rounded(fp32: Path, ranges: static.Ranges, tmp_path: Path) -> None:
    """What goes past a layer is added up as it is: rounding it as well would cost accuracy for nothing."""
    graph = onnx.load(static.quantise(fp32, tmp_path / "s.onnx", ranges)).graph
    rounded = {node.output[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    back = {node.output[0] for node in graph.node if node.input and node.input[0] in rounded}
    assert len(back) == 9
    assert {node.op_type for node in graph.node if back.intersection(node.input)} == {"MatMul"}
    attention = [n for n in graph.node if n.op_type == "MatMul" and not back.intersection(n.input)]
    assert len(attention) == 4


def test_every_product_runs_in_int8_and_no_weight_becomes_floats(
    fp32: Path, ranges: static.Ranges, tmp_path: Path
) -> None:
    made = static.quantise(fp32, tmp_path / "s.onnx", ranges)
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(str(made), options, providers=["CPUExecutionProvider"])
    run = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    assert run["MatMulIntegerToFloat"] == 9
    assert run["DequantizeLinear"] == 2  # rows fetched from the two tables
    assert run["Gemm"] == 0


def test_histograms_cut_what_is_far_out(fp32: Path, ranges: static.Ranges) -> None:
    narrow = static.calibrate(fp32, KNOWN, static.PERCENTILE._replace(percentile=95.0))
    entropy = static.calibrate(fp32, KNOWN[:8], static.ENTROPY)
    inputs = [given for _, given in static.products(onnx.load(fp32))]
    for given in inputs:
        low, high = ranges[given]
        assert low <= narrow[given][0] <= narrow[given][1] <= high
        assert low <= entropy[given][0] < entropy[given][1] <= high
        assert narrow[given][1] - narrow[given][0] < high - low


def test_one_threshold_is_no_choice_so_there_are_more_bins_than_codes() -> None:
    assert static.BINS > 2 * 128


def test_masks_that_are_rounded_let_the_padding_in(fp32: Path, tmp_path: Path) -> None:
    ranges = static.calibrate(fp32, KNOWN, static.MINMAX, ())
    kept = static.quantise_all(fp32, tmp_path / "kept.onnx", ranges)
    assert measure.leak(measure.open_session(kept), NEW).logits < 1e-5
    lost = static.quantise_all(fp32, tmp_path / "lost.onnx", ranges, masks=True)
    assert measure.leak(measure.open_session(lost), NEW).logits > 1e-2


def test_an_lstm_stays_float_and_its_file_shrinks_all_the_same(tmp_path: Path) -> None:
    made = network.init(jax.random.key(0), tokens=50, classes=5, features=48, hidden=32)
    fp32 = network.export(made, {"logits": slice(0, 5)}, tmp_path / "fp32.onnx")
    small = static.quantise(fp32, tmp_path / "s.onnx", static.calibrate(fp32, KNOWN, static.MINMAX))
    operators = [node.op_type for node in onnx.load(small).graph.node]
    assert "LSTM" in operators
    assert operators.count("QuantizeLinear") == 1  # the head's input
    assert small.stat().st_size < 0.4 * fp32.stat().st_size
    assert 0 < np.abs(alone(small) - alone(fp32)).mean() < 0.2 * alone(fp32).std()
    valid = quantise.Valid("x", NEW, [Utterance("x", "a")] * len(NEW), list("abcde"))
    kinds = {
        "static": lambda fp32, out: static.quantise(fp32, out, static.calibrate(fp32, KNOWN, static.MINMAX))
    }
    first, second = quantise.ablate(fp32, kinds, valid, tmp_path)
    assert "no static kernel" in second.note
    assert "no static kernel" not in first.note


def test_all_kinds_write_a_file_that_answers(fp32: Path, tmp_path: Path) -> None:
    best = alone(fp32).argmax(axis=1)
    for name, make in static.kinds(KNOWN[:16]).items():
        same = alone(make(fp32, tmp_path / f"{name}.onnx")).argmax(axis=1) == best
        assert same.mean() > 0.8, name


def test_a_range_that_is_missing_is_named(fp32: Path, ranges: static.Ranges, tmp_path: Path) -> None:
    given = static.products(onnx.load(fp32))[0][1]
    fewer = {name: pair for name, pair in ranges.items() if name != given}
    with pytest.raises(ValueError, match=f"multiplies '{given}', which has no range"):
        static.quantise(fp32, tmp_path / "s.onnx", fewer)
    assert not (tmp_path / "s.onnx").exists()


@pytest.mark.parametrize("rows", [[], [[]]])
def test_nothing_to_calibrate_on_is_refused(rows: list[list[int]], fp32: Path) -> None:
    with pytest.raises(ValueError, match="no sentence to calibrate on"):
        static.calibrate(fp32, rows, static.MINMAX)
