"""Core ML packages: what they say of themselves, what their programs give when worked out, and what breaks that."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="NOT CHECKED: exports for phones need the lock `train`")
pytest.importorskip(
    "coremltools",
    reason="NOT CHECKED: Core ML packages, because coremltools is not installed (the lock `mobile`)",
)

from edge.mobile import coreml, export, mil
from edge.mobile.interpreter import OPERATIONS, Package
from edge.mobile.sentences import Difference, answers, difference, padded
from edge.mobile.weights import Head, Weights
from models.emit import LstmWeights
from tests.unit.models.test_mobile_onnx import CLASSES, ROWS, TOKENS, bilstm, transformer

FP16, INT8 = 0.03, 0.3
"""What half precision, and 8 bits for the weights too, may move of logits of a few units."""


def compared(network: Weights, package: Path, scratch: Path) -> Difference:
    """A saved package, interpreted, against ONNX Runtime's answer to the float graph."""
    plain = answers(export.write_float(network, TOKENS, scratch / "float.onnx"), ROWS, TOKENS)
    held = Package(package)
    ours = [held.run(**padded(row, TOKENS, np.int32)) for row in ROWS]
    return difference(ours, [{mil.name_of(name): value for name, value in one.items()} for one in plain])


def written(network: Weights, folder: Path) -> tuple[Path, Path]:
    made = folder / "fp16.mlpackage", folder / "int8.mlpackage"
    coreml.write(network, TOKENS, *made)
    return made


def leaves(network: Any) -> list[Any]:
    """Every array of a network."""
    if isinstance(network, LstmWeights):
        return [network.kernel, network.recurrent, network.bias]
    if isinstance(network, Mapping):
        network = tuple(network.values())
    if isinstance(network, tuple):
        return [leaf for part in network for leaf in leaves(part)]
    return [network] if isinstance(network, np.ndarray) else []


@pytest.mark.parametrize("kind", ["bilstm", "bilstm without a floor", "transformer"])
def test_a_package_answers_as_the_network_does(tmp_path: Path, kind: str) -> None:
    network = transformer() if kind == "transformer" else bilstm(floor=kind == "bilstm")
    fp16, int8 = written(network, tmp_path)

    half, eight = compared(network, fp16, tmp_path), compared(network, int8, tmp_path)

    assert 0 < half.largest < FP16, "0 would mean that nothing was rounded, so not this package was run"
    assert half.largest < eight.largest < INT8
    assert half.flipped["logits"] == 0


def test_a_package_says_what_goes_in_and_out(tmp_path: Path) -> None:
    fp16, int8 = written(transformer(), tmp_path)

    told = coreml.interface(fp16)

    assert told["inputs"] == {
        "ids": {"shape": [1, TOKENS], "type": "int32"},
        "lengths": {"shape": [1], "type": "int32"},
    }
    assert told["outputs"]["logits"] == {"shape": [1, CLASSES], "type": "float32"}
    assert set(told["outputs"]) == {"logits", "embedding"}
    assert told == coreml.interface(int8)


@pytest.mark.parametrize("kind", ["bilstm", "transformer"])
def test_each_package_is_as_narrow_as_its_name(tmp_path: Path, kind: str) -> None:
    """Bytes for each number: an operation that stays in float32 shows here, and in no answer."""
    # Wide enough that its matrices are not among the small tensors that stay in FP16.
    network = transformer(features=48) if kind == "transformer" else bilstm()
    numbers = sum(leaf.size for leaf in leaves(network))

    fp16, int8 = (
        sum(path.stat().st_size for path in package.rglob("weight.bin")) / numbers
        for package in written(network, tmp_path)
    )

    # Scales, small tensors and the padding between tensors weigh more in a network of this size than in a real one.
    assert 1.9 < fp16 < 2.4
    assert 0.9 < int8 < 1.6


def test_a_head_with_a_point_in_its_name_gets_one_that_core_ml_takes(tmp_path: Path) -> None:
    network = bilstm()
    more: Mapping[str, Head] = {**network.heads, "logits.other": network.heads["logits"]}
    fp16, _ = written(network._replace(heads=more), tmp_path)
    assert set(coreml.interface(fp16)["outputs"]) == {"logits", "logits_other"}


def test_a_gate_in_the_wrong_place_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter is worth something only if a wrong package does not pass."""
    monkeypatch.setattr(mil, "mil_gates", lambda array: np.asarray(array, np.float32))
    network = bilstm()
    fp16, _ = written(network, tmp_path)
    assert compared(network, fp16, tmp_path).largest > 10 * FP16


def test_a_mask_that_is_missing_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mil, "MASKED", 0.0)
    network = transformer()
    fp16, _ = written(network, tmp_path)
    assert compared(network, fp16, tmp_path).largest > FP16


def test_an_operation_that_is_not_known_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fp16, _ = written(bilstm(), tmp_path)
    monkeypatch.delitem(OPERATIONS, "lstm")
    inputs: Any = padded(ROWS[1], TOKENS, np.int32)
    with pytest.raises(ValueError, match="'lstm' is not known"):
        Package(fp16).run(**inputs)


def test_more_tokens_than_positions_are_refused() -> None:
    with pytest.raises(ValueError, match="17 tokens are more than the 16 positions"):
        mil.program(transformer(), 17)
