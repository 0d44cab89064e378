"""The emitter's nodes give in ONNX Runtime what a plain NumPy LSTM gives, padding included."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

onnx = pytest.importorskip(
    "onnx", reason="onnx is not installed; `python3 deploy/local/setup.py --train` brings it"
)

from models.emit import (  # noqa: E402
    Graph,
    LstmWeights,
    join_directions,
    last_features,
    linear,
    lstm,
    onnx_gates,
    save,
    sequence_features,
)

Array = NDArray[np.float32]
FEATURES, HIDDEN = 5, 7


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)), np.float32)


def reference(x: Array, weights: LstmWeights) -> Array:
    """The states [steps, hidden] of one item x [steps, features], gates i, f, g, o."""
    kernel, recurrent, bias = (np.asarray(a) for a in (weights.kernel, weights.recurrent, weights.bias))
    h, c = np.zeros(HIDDEN, np.float32), np.zeros(HIDDEN, np.float32)
    states = []
    for step in x:
        i, f, g, o = np.split(kernel @ step + recurrent @ h + bias, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        states.append(h)
    return np.asarray(states, np.float32)


def weights(rng: np.random.Generator, features: int = FEATURES) -> LstmWeights:
    def draw(*shape: int) -> Array:
        return rng.normal(0, 0.5, shape).astype(np.float32)

    return LstmWeights(draw(4 * HIDDEN, features), draw(4 * HIDDEN, HIDDEN), draw(4 * HIDDEN))


def run(path: Path, **feeds: NDArray[np.generic]) -> list[Array]:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


@pytest.mark.parametrize("directions", [1, 2])
def test_masked_lstm_equals_numpy(tmp_path: Path, directions: int) -> None:
    rng = np.random.default_rng(3)
    layers = [weights(rng) for _ in range(directions)]
    graph = Graph("masked")
    x = graph.input("x", np.float32, ["steps", "batch", FEATURES])
    lengths = graph.input("lengths", np.int64, ["batch"])
    out = lstm(graph, x, layers, lengths=lengths)
    width = directions * HIDDEN
    graph.output(sequence_features(graph, out), "sequence", np.float32, ["steps", "batch", width])
    graph.output(last_features(graph, out), "last", np.float32, ["batch", width])
    path = save(graph, tmp_path / "m.onnx")

    items = rng.normal(size=(9, 4, FEATURES)).astype(np.float32)
    valid = np.array([9, 1, 4, 6], np.int64)
    sequence, last = run(path, x=items, lengths=valid)

    for item, steps in enumerate(valid):
        seen = items[:steps, item]
        states = [reference(seen, layers[0])]
        ends = [states[0][-1]]
        if directions == 2:
            backward = reference(seen[::-1], layers[1])
            states.append(backward[::-1])
            ends.append(backward[-1])
        np.testing.assert_allclose(sequence[:steps, item], np.concatenate(states, axis=1), atol=1e-5)
        np.testing.assert_allclose(last[item], np.concatenate(ends), atol=1e-5)
        assert not sequence[steps:, item].any(), "states behind the length must be zero"


def test_unmasked_stack_with_head_equals_numpy(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    first, second = weights(rng), weights(rng, HIDDEN)
    head, bias = rng.normal(size=(HIDDEN, 3)).astype(np.float32), rng.normal(size=3).astype(np.float32)
    graph = Graph("stack")
    x = graph.input("x", np.float32, ["steps", "batch", FEATURES])
    hidden = sequence_features(graph, lstm(graph, x, [first], name="first"))
    out = lstm(graph, hidden, [second], name="second")
    graph.output(linear(graph, last_features(graph, out), head, bias), "y", np.float32, ["batch", 3])

    items = rng.normal(size=(6, 2, FEATURES)).astype(np.float32)
    (y,) = run(save(graph, tmp_path / "m.onnx"), x=items)

    for item in range(2):
        expected = reference(reference(items[:, item], first), second)[-1] @ head + bias
        np.testing.assert_allclose(y[item], expected, atol=1e-5)


def test_the_file_is_one_lstm_node_and_reproducible(tmp_path: Path) -> None:
    def build(path: Path) -> Path:
        graph = Graph("small")
        x = graph.input("x", np.float32, ["steps", "batch", FEATURES])
        out = lstm(graph, x, [weights(np.random.default_rng(5)), weights(np.random.default_rng(6))])
        graph.output(join_directions(graph, out.last, out), "y", np.float32, ["batch", 2 * HIDDEN])
        return save(graph, path, metadata={"labels": "a,b"})

    first, second = build(tmp_path / "a.onnx"), build(tmp_path / "deep" / "b.onnx")
    model = onnx.load(first)

    assert first.read_bytes() == second.read_bytes()
    assert [node.op_type for node in model.graph.node] == ["LSTM", "Transpose", "Reshape", "Identity"]
    assert model.opset_import[0].version >= 17
    assert {p.key: p.value for p in model.metadata_props} == {"labels": "a,b"}


def test_gates_are_reordered_for_onnx() -> None:
    np.testing.assert_array_equal(onnx_gates(np.array([1, 2, 3, 4])), [1, 4, 2, 3])
    with pytest.raises(ValueError, match="multiple of 4"):
        onnx_gates(np.zeros((6, 2)))


def test_mistakes_are_named() -> None:
    graph = Graph("broken")
    x = graph.input("x", np.float32, ["steps", "batch", FEATURES])
    with pytest.raises(ValueError, match="'x'"):
        graph.input("x", np.float32, [1])
    with pytest.raises(ValueError, match="not 3"):
        lstm(graph, x, [weights(np.random.default_rng(7))] * 3)


def test_an_invalid_graph_is_not_written(tmp_path: Path) -> None:
    graph = Graph("broken")
    x = graph.input("x", np.float32, ["batch", FEATURES])
    graph.output(graph.node("Add", [x, "nowhere"]), "y", np.float32, ["batch", FEATURES])
    with pytest.raises(onnx.checker.ValidationError):
        save(graph, tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()
