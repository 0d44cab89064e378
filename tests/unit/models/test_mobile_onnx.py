"""ONNX for phones: the graphs answer as the entry does, a wrong one is not written, the reports are read rightly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="NOT CHECKED: exports for phones need the lock `train`")
pytest.importorskip("sympy", reason="NOT CHECKED: ONNX Runtime's usability checker needs the lock `mobile`")

from edge.mobile import encoder_onnx, export, fixed, ort_format, recurrent_onnx, usability, weights  # noqa: E402
from edge.mobile.sentences import Difference, answers, difference  # noqa: E402
from models.emit import Graph, LstmWeights, onnx_gates, save  # noqa: E402
from models.methods.quantise import KINDS  # noqa: E402

TOKENS, VOCABULARY = 12, 60
FEATURES, HIDDEN, CLASSES = 20, 24, 5
ROWS = [[7], [3, 9, 4], [5] * TOKENS, [2, 8, 11, 30, 59]]


def bilstm(*, floor: bool = True) -> weights.Recurrent:
    """States near their bounds on both sides, so that a maximum below 0 occurs."""
    random = np.random.default_rng(3)

    def draw(*shape: int) -> weights.Floats:
        return random.normal(0, 0.5, shape).astype(np.float32)

    def way() -> LstmWeights:
        return LstmWeights(draw(4 * HIDDEN, FEATURES), draw(4 * HIDDEN, HIDDEN), draw(4 * HIDDEN))

    heads = {"logits": weights.Head(draw(4 * HIDDEN, CLASSES), draw(CLASSES))}
    return weights.Recurrent(draw(VOCABULARY, FEATURES), way(), way(), floor, heads)


def entry(folder: Path, kind: str | None = None) -> Path:
    """A folder with the BiLSTM as training's own exporter writes it, quantised in one of models.methods' ways."""
    pytest.importorskip("jax", reason="NOT CHECKED: training's exporters need the lock `train`")
    from models.intents import network  # noqa: PLC0415

    made = bilstm()
    head = made.heads["logits"]
    ways = [network.Lstm(way.kernel, way.recurrent, way.bias) for way in (made.forward, made.backward)]
    trained = network.Network(made.embedding, ways[0], ways[1], head.weight, head.bias)
    plain = network.export(trained, {"logits": slice(0, CLASSES)}, folder / "plain.onnx")
    if kind is None:
        plain.rename(folder / "model.onnx")
    else:
        KINDS[kind](plain, folder / "model.onnx")
    return folder


def transformer(features: int = FEATURES) -> weights.Transformer:
    pytest.importorskip("jax", reason="NOT CHECKED: encoders need the lock `train`")
    from tests.unit.models.encoders import random_encoder  # noqa: PLC0415

    encoder = random_encoder(
        vocabulary=VOCABULARY, longest=16, features=features, heads=2, size=features // 2, units=2 * features,
        layers=2, spread=0.3,
    )  # fmt: skip
    random = np.random.default_rng(5)
    weight, bias = (
        random.normal(0, 1, shape).astype(np.float32) for shape in ((features, CLASSES), (CLASSES,))
    )
    return weights.Transformer(encoder, {"logits": weights.Head(weight, bias)})


@pytest.mark.parametrize("kind", [None, "weights-int8"])
def test_a_bilstm_is_read_back_and_answers_as_training_exported_it(tmp_path: Path, kind: str | None) -> None:
    model = entry(tmp_path, kind) / "model.onnx"
    ours = export.write_float(weights.read(tmp_path), TOKENS, tmp_path / "float.onnx")

    found = difference(answers(ours, ROWS, TOKENS), answers(model, ROWS, None))

    assert found.largest < export.SAME, "padding, or a gate, moved the logits"
    assert found.flipped == {"logits": 0}


def test_a_bilstm_of_int8_states_is_read_back_as_its_floats(tmp_path: Path) -> None:
    """The transposed matrices and the scales of DynamicQuantizeLSTM."""
    found, made = weights.read(entry(tmp_path, "int8-lstm")), bilstm()
    assert isinstance(found, weights.Recurrent)

    for ours, theirs in ((found.forward, made.forward), (found.backward, made.backward)):
        pairs = [
            (np.asarray(a), np.asarray(b))
            for a, b in (
                (ours.kernel, theirs.kernel),
                (ours.recurrent, theirs.recurrent),
                (ours.bias, theirs.bias),
            )
        ]
        for (a, b), rounding in zip(pairs, (0.02, 0.02, 1e-6), strict=True):
            np.testing.assert_allclose(a, b, atol=rounding)


def test_a_maximum_without_a_floor_stays_below_zero(tmp_path: Path) -> None:
    """Older files have no floor of 0; the padding's zeros must not win there, and they do make a difference."""
    low, floored = bilstm(floor=False), bilstm()
    short = [[7], [3, 9]]
    without = recurrent_onnx.write(low, TOKENS, tmp_path / "low.onnx")
    unpadded = answers(recurrent_onnx.write(low, 1, tmp_path / "one.onnx"), short[:1], 1)

    np.testing.assert_allclose(
        answers(without, short[:1], TOKENS)[0]["logits"], unpadded[0]["logits"], atol=1e-5
    )
    other = answers(recurrent_onnx.write(floored, TOKENS, tmp_path / "floor.onnx"), short, TOKENS)
    assert difference(answers(without, short, TOKENS), other).largest > 1e-2


def test_the_gates_come_back_in_training_s_order() -> None:
    gates = np.arange(8, dtype=np.float32).reshape(8, 1)
    np.testing.assert_array_equal(weights.trained_gates(onnx_gates(gates)), gates)


def test_an_encoder_in_nnapi_s_operations_answers_as_training_s_exporter(tmp_path: Path) -> None:
    network = transformer()
    ours = encoder_onnx.write(network, TOKENS, tmp_path / "float.onnx")

    plain = export.write_plain(network, tmp_path)

    found = difference(answers(ours, ROWS, TOKENS), answers(plain, ROWS, None))
    assert found.largest < export.SAME
    told = usability.summary(usability.check(ours))
    assert told["NNAPI"]["ready"] == told["NNAPI"]["nodes"] > 50
    assert told["NNAPI"]["partitions"] == 1
    assert told["NNAPI"]["verdict"] == "YES"
    lacking = usability.summary(usability.check(fixed.write(plain, TOKENS, tmp_path / "fixed.onnx")))["NNAPI"]
    assert lacking["verdict"] == "NO", "then writing it out would be for nothing"
    assert "ai.onnx:LayerNormalization" in lacking["lacking"]


def test_an_encoder_takes_no_more_tokens_than_it_has_positions(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="17 tokens are more than the 16 positions"):
        encoder_onnx.write(transformer(), 17, tmp_path / "float.onnx")
    assert not (tmp_path / "float.onnx").exists()


def test_a_fixed_shape_answers_alike_and_refuses_another(tmp_path: Path) -> None:
    model = entry(tmp_path) / "model.onnx"
    ours = fixed.write(model, TOKENS, tmp_path / "fixed.onnx")

    assert difference(answers(ours, ROWS, TOKENS), answers(model, ROWS, TOKENS)).largest == 0
    with pytest.raises(Exception, match="invalid dimensions"):
        answers(ours, ROWS[:1], TOKENS - 1)


def test_a_graph_with_other_free_dimensions_is_refused_by_name(tmp_path: Path) -> None:
    graph = Graph("other")
    x = graph.input("x", np.float32, ["people", 3])
    graph.output(graph.node("Relu", [x]), "y", np.float32, ["people", 3])
    model = save(graph, tmp_path / "m.onnx")

    with pytest.raises(ValueError, match="'x' has a dimension that is neither"):
        fixed.write(model, TOKENS, tmp_path / "fixed.onnx")


@pytest.mark.parametrize("optimised", [True, False])
def test_ort_format_answers_alike_and_lists_its_operators(tmp_path: Path, optimised: bool) -> None:
    model = entry(tmp_path) / "model.onnx"
    ours = ort_format.write(model, tmp_path / "phone.ort", optimised=optimised)

    assert difference(answers(ours, ROWS, None), answers(model, ROWS, None)).largest < export.SAME
    told = ort_format.operators(ours).read_text()
    assert "LSTM" in told
    assert str(tmp_path) not in told and "#" not in told, "the list names a folder of this machine"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "model.onnx", "phone.ort", "phone.required_operators.config",
    ]  # fmt: skip


def test_a_file_that_is_no_model_is_not_converted(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"convert_onnx_models_to_ort failed on model\.onnx"):
        ort_format.write(tmp_path / "model.onnx", tmp_path / "phone.ort", optimised=True)
    assert not (tmp_path / "phone.ort").exists()


def test_an_output_that_no_head_explains_is_refused(tmp_path: Path) -> None:
    """Tags of single words, for instance: leaving them out in silence would be a wrong model."""
    graph = Graph("tags")
    ids = graph.input("ids", np.int64, ["batch", "tokens"])
    graph.input("lengths", np.int64, ["batch"])
    scores = graph.node("Gather", [graph.constant("table", np.zeros((VOCABULARY, 3))), ids])
    graph.output(scores, "tags", np.float32, ["batch", "tokens", 3])
    save(graph, tmp_path / "model.onnx")

    with pytest.raises(ValueError, match=r"'tags', which is no linear head.*--formats onnx,ort"):
        weights.read(tmp_path)


def test_weights_of_4_bits_are_not_read_back(tmp_path: Path) -> None:
    KINDS["int4"](export.write_plain(transformer(features=64), tmp_path), tmp_path / "model.onnx")
    with pytest.raises(ValueError, match=r"cannot be read back.*not of 4 bits"):
        weights.read(tmp_path)


def test_a_report_of_another_form_is_not_guessed_at() -> None:
    with pytest.raises(ValueError, match="form that is not known"):
        usability.summary("Checking NNAPI\nall is well\n")


def test_another_network_is_told_from_a_rounded_one() -> None:
    export.alike(Difference(0.5, {"logits": 8}, 84), Path("float.onnx"))
    with pytest.raises(ValueError, match=r"float\.onnx answers 9 of 84 sentences with another label"):
        export.alike(Difference(0.5, {"logits": 9}, 84), Path("float.onnx"))
    with pytest.raises(ValueError, match=r"moves an output by 2e-05"):
        export.within(Difference(2e-5, {"logits": 0}, 84), export.SAME, Path("float.onnx"))


def test_models_with_other_outputs_are_not_compared() -> None:
    one = np.zeros((1, 3), np.float32)
    with pytest.raises(ValueError, match="nothing to compare"):
        difference([{"logits": one}], [{"tags": one}])


def test_a_difference_counts_what_is_there() -> None:
    ours = [{"logits": np.array([[1.0, 2.0]], np.float32)}, {"logits": np.array([[3.0, 1.0]], np.float32)}]
    theirs = [{"logits": np.array([[1.5, 1.0]], np.float32)}, {"logits": np.array([[3.0, 1.0]], np.float32)}]
    assert difference(ours, theirs) == Difference(1.0, {"logits": 1}, 2)
    assert difference(ours, ours) == Difference(0.0, {"logits": 0}, 2)
