"""The parser's networks: JAX and ONNX are one function, padding and neighbours have no say, nothing else is put out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
import pytest

pytest.importorskip("jax", reason="training needs the lock `train`", exc_type=ImportError)
pytest.importorskip("onnx", reason="training needs the lock `train`")

import jax
import onnx

from models.intents import network as lstm
from models.methods.quantise import weights_int8
from models.minilm import network as minilm
from models.slots import export, network
from tests.unit.models.encoders import random_encoder

TOKENS, INTENTS, TAGS, FEATURES, HIDDEN = 40, 5, 7, 12, 10
LENGTHS = np.array([9, 1, 5, 9])
RANDOM = np.random.default_rng(1)
IDS = np.where(np.arange(9) < LENGTHS[:, None], RANDOM.integers(2, TOKENS, (4, 9)), 0)


class Kind(NamedTuple):
    """Random parameters; the scores, and those of the intent network alone; the ONNX file; dropout at a fifth."""

    trained: Any
    scores: Callable[..., network.Scores]
    intents: Callable[..., Any]
    write: Callable[[Any, Path], Path]
    rate: Any


def bilstm() -> Kind:
    keys = jax.random.split(jax.random.key(3))
    body = lstm.init(keys[0], tokens=TOKENS, classes=INTENTS, features=FEATURES, hidden=HIDDEN)
    head = minilm.Linear(jax.random.normal(keys[1], (2 * HIDDEN, TAGS)), np.arange(TAGS, dtype=np.float32))
    rate = lstm.Dropout(0.2, 0.2, 0.2)
    return Kind(network.Recurrent(body, head), network.recurrent, lstm.logits, export.recurrent, rate)


def encoder() -> Kind:
    body = random_encoder(
        vocabulary=TOKENS, longest=16, features=FEATURES, heads=3, size=4, units=20, layers=2, spread=0.4
    )
    key = jax.random.key(4)
    intents, tags = (
        minilm.Linear(jax.random.normal(key, (FEATURES, n)), np.ones(n)) for n in (INTENTS, TAGS)
    )
    trained = network.Transformer(minilm.Network(body, intents), tags)
    return Kind(trained, network.transformer, minilm.logits, export.transformer, 0.2)


@pytest.fixture(scope="module", params=[bilstm, encoder], ids=["bilstm", "encoder"])
def kind(request: pytest.FixtureRequest) -> Kind:
    made: Kind = request.param()
    return made


@pytest.fixture(scope="module")
def path(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of that kind."""
    return kind.write(kind.trained, tmp_path_factory.mktemp("written") / "model.onnx")


def run(path: Path, ids: Any, lengths: Any) -> network.Scores:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return network.Scores(*session.run(["logits", "tags"], {"ids": ids, "lengths": lengths}))


def valid(scores: network.Scores, lengths: Any) -> list[Any]:
    """The tags' scores of each item without its padding."""
    return [np.asarray(scores.tags)[row, :length] for row, length in enumerate(lengths)]


def test_jax_and_onnx_are_one_function(kind: Kind, path: Path) -> None:
    scores = jax.jit(kind.scores)
    for ids, lengths in ((IDS, LENGTHS), (IDS[:1], LENGTHS[:1]), (IDS[1:2, :1], LENGTHS[1:2])):
        ours, served = scores(kind.trained, ids, lengths), run(path, ids, lengths)
        assert served.intents.dtype == served.tags.dtype == np.float32
        assert served.intents.shape == (len(ids), INTENTS)
        assert served.tags.shape == (*ids.shape, TAGS)
        np.testing.assert_allclose(served.intents, ours.intents, atol=1e-5)
        for one, other in zip(valid(served, lengths), valid(ours, lengths), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)
    assert np.ptp(served.tags) > 0.1, "random weights give different scores"


def test_padding_and_neighbours_have_no_say(path: Path) -> None:
    together = run(path, IDS, LENGTHS)
    # What stands behind an item's end is not read, whatever it is.
    strange = run(path, np.where(IDS == 0, 7, IDS), LENGTHS)
    np.testing.assert_allclose(strange.intents, together.intents, atol=1e-5)
    for row, length in enumerate(LENGTHS):
        alone = run(path, IDS[row : row + 1, :length], LENGTHS[row : row + 1])
        np.testing.assert_allclose(alone.intents[0], together.intents[row], atol=1e-5)
        np.testing.assert_allclose(alone.tags[0], together.tags[row, :length], atol=1e-5)
        np.testing.assert_allclose(strange.tags[row, :length], together.tags[row, :length], atol=1e-5)
    other = run(path, np.where(IDS[0, 0] == IDS, IDS[0, 1], IDS), LENGTHS)
    assert np.abs(other.tags[0] - together.tags[0]).max() > 1e-3, "what is before the end is read"


def test_the_file_holds_what_is_served_and_no_more(path: Path) -> None:
    model = onnx.load(str(path))
    assert [value.name for value in model.graph.output] == ["logits", "tags"]
    assert [value.name for value in model.graph.input] == ["ids", "lengths"]
    read = {name for node in model.graph.node for name in node.input} | {"logits", "tags"}
    assert {value.name for value in model.graph.initializer} <= read
    assert all(set(node.output) & read for node in model.graph.node)


def test_the_intents_are_those_of_the_intent_network(kind: Kind) -> None:
    expected = jax.jit(kind.intents)(kind.trained.body, IDS, LENGTHS)
    found = jax.jit(kind.scores)(kind.trained, IDS, LENGTHS).intents
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_dropout_differs_from_key_to_key(kind: Kind) -> None:
    dropped = jax.jit(lambda key: kind.scores(kind.trained, IDS, LENGTHS, kind.rate, key))
    first, second, again = (dropped(jax.random.key(number)) for number in (1, 2, 1))
    np.testing.assert_array_equal(first.tags, again.tags)
    assert np.abs(first.tags - second.tags).max() > 1e-3
    assert np.abs(first.intents - second.intents).max() > 1e-3


def test_int8_weights_give_nearly_the_same(path: Path, tmp_path: Path) -> None:
    smaller = run(weights_int8(path, tmp_path / "int8.onnx"), IDS, LENGTHS)
    whole = run(path, IDS, LENGTHS)
    difference = np.abs(smaller.tags - whole.tags).max()
    assert 0 < difference < 0.1 * np.ptp(whole.tags)
