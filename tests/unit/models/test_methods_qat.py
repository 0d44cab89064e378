"""Quantisation-aware training: what is trained is what ONNX Runtime runs, and it trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="training needs the lock `train`", exc_type=ImportError)
onnx = pytest.importorskip("onnx", reason="training needs the lock `train`", exc_type=ImportError)

import jax.numpy as jnp  # noqa: E402
import optax  # noqa: E402

from models.batches import pad  # noqa: E402
from models.intents import measure  # noqa: E402
from models.methods import qat, static  # noqa: E402
from models.minilm import export, network  # noqa: E402
from models.minilm.recipe import Recipe  # noqa: E402
from tests.unit.models.encoders import random_encoder  # noqa: E402

RANDOM = np.random.default_rng(1)
ROWS = [[int(token) for token in RANDOM.integers(1, 50, length)] for length in RANDOM.integers(1, 13, 96)]
KNOWN, NEW = ROWS[:32], ROWS[32:]
NOTHING = qat.Rounding(lambda name, x, counts: x, lambda weight: weight, lambda name, table: table)


@pytest.fixture(scope="module")
def plain() -> network.Network:
    encoder = random_encoder(
        vocabulary=50, longest=16, features=32, heads=4, size=8, units=48, layers=2, spread=0.3
    )
    random = np.random.default_rng(8)
    weight, bias = (random.normal(0, 0.3, shape).astype(np.float32) for shape in ((32, 5), (5,)))
    return network.Network(encoder, network.Linear(weight, bias))


@pytest.fixture(scope="module")
def begun(plain: network.Network) -> qat.Trained:
    return qat.begin(plain, KNOWN)


def test_unrounded_it_is_the_encoder(plain: network.Network) -> None:
    ids, lengths = pad(NEW, (16,))
    found = qat.logits(plain, ids, lengths, NOTHING, lambda x: x)
    np.testing.assert_allclose(found, network.logits(plain, ids, lengths), atol=1e-5)


@pytest.mark.parametrize("reduce_range", [False, True])
def test_onnx_runtime_answers_what_was_trained(
    reduce_range: bool, plain: network.Network, begun: qat.Trained, tmp_path: Path
) -> None:
    path = qat.write(begun, {"logits": plain.head}, tmp_path / "q.onnx", reduce_range=reduce_range)
    session = measure.open_session(path)
    served = np.concatenate([measure.run(session, [row]) for row in NEW])
    ids, lengths = pad(NEW, (16,))
    trained = np.asarray(qat.frozen(begun, reduce_range=reduce_range)(ids, lengths))
    np.testing.assert_array_equal(served.argmax(axis=1), trained.argmax(axis=1))
    # Float sums differ in their last bits, which can move an input of the head to the next code, one step away.
    step = float(qat.exact_grid(*map(float, begun.ranges["head"])).scale * np.abs(plain.head.weight).max())
    assert np.abs(served - trained).max() < step
    # As a rule nothing of the kind happens, and the answers are equal up to float sums.
    assert np.median(np.abs(served - trained)) < 1e-5
    # The rounding is what is compared: without it they are further apart than a step.
    floats = np.asarray(network.logits(plain, ids, lengths))
    assert np.abs(served - floats).max() > step


def test_neighbours_have_no_say(plain: network.Network, begun: qat.Trained, tmp_path: Path) -> None:
    session = measure.open_session(qat.write(begun, {"logits": plain.head}, tmp_path / "q.onnx"))
    assert measure.leak(session, NEW).logits < 1e-5


def test_several_heads_share_the_range_of_what_they_read(
    plain: network.Network, begun: qat.Trained, tmp_path: Path
) -> None:
    weight, bias = np.asarray(plain.head.weight), np.asarray(plain.head.bias)
    heads = {
        name: network.Linear(weight[:, own], bias[own])
        for name, own in (("logits", slice(0, 3)), ("logits.b", slice(3, 5)))
    }
    session = measure.open_session(qat.write(begun, heads, tmp_path / "q.onnx"))
    whole = measure.open_session(qat.write(begun, {"logits": plain.head}, tmp_path / "whole.onnx"))
    for row in NEW[:8]:
        both = np.concatenate(session.run(["logits", "logits.b"], static.feed(row)), axis=1)
        np.testing.assert_allclose(both, measure.run(whole, [row]), atol=1e-5)


@pytest.mark.parametrize(("most", "reduce_range"), [(qat.FULL, False), (qat.REDUCED, True)])
def test_weights_have_the_codes_of_the_file(
    most: int, reduce_range: bool, plain: network.Network, begun: qat.Trained, tmp_path: Path
) -> None:
    path = qat.write(begun, {"logits": plain.head}, tmp_path / "q.onnx", reduce_range=reduce_range)
    held = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    for layer, name in ((layer, f"layer{at}") for at, layer in enumerate(plain.encoder.layers)):
        for part, weight in ((f"{name}.up", layer.up.weight), (f"{name}.down", layer.down.weight)):
            codes, scale = held[f"{part}.weight_quantized"], held[f"{part}.weight_scale"]
            assert np.abs(codes.astype(int)).max() == most
            np.testing.assert_array_equal(codes * scale, qat.rounded_weight(jnp.asarray(weight), most))


def test_grids_are_onnx_runtimes() -> None:
    random = np.random.default_rng(4)
    ends = [*(random.normal(0, 3, (200, 2))), (0.5, 2.0), (-3.0, -1.0), (0.0, 0.0), (-1e-3, 40.0)]
    for low, high in (sorted(map(float, pair)) for pair in ends):
        exact, trained = qat.exact_grid(low, high), qat.grid(jnp.array([low, high], jnp.float32))
        np.testing.assert_allclose(trained.scale, exact.scale, rtol=2e-7)
        assert abs(float(trained.zero) - float(exact.zero)) <= (0 if low >= 0 or high <= 0 else 1)
        assert 0 <= float(exact.zero) <= 255
        # Zero, which is what padding and Relu give, stays zero.
        assert float(qat.on_grid(jnp.zeros(1), exact)[0]) == 0


def test_codes_are_those_of_quantize_linear() -> None:
    """Halves to even, and what is outside clipped, as the ONNX operator has it."""
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
            onnx.helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
        ],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None])],
        [
            onnx.numpy_helper.from_array(np.array(0.5, np.float32), "scale"),
            onnx.numpy_helper.from_array(np.array(100, np.uint8), "zero"),
        ],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    import onnxruntime as ort  # noqa: PLC0415 (after the skip)

    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.concatenate([np.arange(-400, 400) / 8, np.random.default_rng(9).normal(0, 30, 1000)]).astype(
        np.float32
    )
    where = qat.Grid(np.float32(0.5), np.float32(100))
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], qat.on_grid(jnp.asarray(x), where))


def test_the_gradient_passes_inside_and_stops_outside() -> None:
    x = jnp.array([-3.0, -0.9, 0.1, 0.9, 3.0])
    slope = jax.grad(lambda x: jnp.sum(qat.rounded(x, jnp.array([-1.0, 1.0]), jnp.ones(5, bool)) * 2.0))(x)
    np.testing.assert_array_equal(slope, [0, 2, 2, 2, 0])
    weight = jnp.array([[1.0, -2.0], [0.3, 0.7]])
    np.testing.assert_array_equal(
        jax.grad(lambda w: qat.rounded_weight(w, 127).sum())(weight), np.ones((2, 2))
    )


def test_a_step_moves_a_range_towards_what_counts() -> None:
    ends = jnp.array([-1.0, 1.0])
    x, counts = jnp.array([-2.0, 5.0, 90.0]), jnp.array([True, True, False])

    def slope(by: float) -> Any:
        return jax.grad(lambda ends: by * jnp.sum(qat.rounded(x, ends, counts)))(ends)

    moved = ends - slope(1.0)
    np.testing.assert_allclose(moved, 0.99 * ends + 0.01 * np.array([-2.0, 5.0]), rtol=1e-6)
    # However large the loss is: it is an average, not a descent.
    np.testing.assert_array_equal(slope(1.0), slope(1000.0))


def test_it_learns_with_the_rounding_and_padding_has_no_say_in_ranges(plain: network.Network) -> None:
    begun = qat.begin(plain._replace(encoder=plain.encoder._replace(layers=plain.encoder.layers[:1])), KNOWN)
    recipe = Recipe(rate=4e-3, head_rate=2e-2, dropout=0.1)
    made = qat.network(recipe, begun)
    ids, lengths = pad(KNOWN, (16,))
    targets = jnp.asarray([row[0] % 5 for row in KNOWN])
    descent = made.optimiser(40)

    def taken(trained: Any, state: Any, key: Any, ids: Any) -> Any:
        def loss(trained: Any) -> Any:
            found = made.scores(trained, ids, lengths, key)
            return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(found), targets[:, None], axis=1))

        value, slope = jax.value_and_grad(loss)(trained)
        change, state = descent.update(slope, state, trained)
        return optax.apply_updates(trained, change), state, value

    step = jax.jit(taken)
    trained, state, losses = made.trained, descent.init(made.trained), []
    for number in range(40):
        trained, state, value = step(trained, state, jax.random.key(number), ids)
        losses.append(float(value))
    assert np.mean(losses[-5:]) < 0.5 * losses[0]
    np.testing.assert_array_equal(trained.network.encoder.tokens, begun.network.encoder.tokens)
    assert any(not np.array_equal(trained.ranges[name], ends) for name, ends in begun.ranges.items())
    # Other padding, same step.
    behind = np.where(np.arange(16)[None, :] < lengths[:, None], ids, 49)
    first, _, _ = step(made.trained, descent.init(made.trained), jax.random.key(0), ids)
    other, _, _ = step(made.trained, descent.init(made.trained), jax.random.key(0), behind)
    for one, two in zip(jax.tree.leaves(first.ranges), jax.tree.leaves(other.ranges), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)


def test_a_graph_of_other_products_is_refused(
    plain: network.Network, begun: qat.Trained, tmp_path: Path
) -> None:
    fewer = plain.encoder._replace(layers=plain.encoder.layers[:1])
    path = export.export(plain.encoder, {"logits": plain.head}, tmp_path / "two.onnx")
    with pytest.raises(ValueError, match="has 9 linear products where 1 layers and 1 heads have 5"):
        qat._inputs(path, fewer, 1)
    assert set(qat.names(2)) == set(begun.ranges)


def test_no_sentence_to_begin_with_is_refused(plain: network.Network) -> None:
    with pytest.raises(ValueError, match="no sentence to calibrate on"):
        qat.begin(plain, [])
