"""Core ML packages of a network: FP16, and INT8 weights that are FP16 again when they are used."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge.mobile import mil
from edge.mobile.weights import Weights

FEWEST = 512
"""Numbers below which a tensor is left in FP16: a scale for each row would cost what it saves."""


def write(weights: Weights, tokens: int, fp16: Path, int8: Path) -> None:
    """Write both packages (folders ending in .mlpackage), for iOS 17 and later.

    INT8 is symmetric with one scale for each row. Raises ModuleNotFoundError where coremltools is not installed.
    """
    with quiet():
        ct = importlib.import_module("coremltools")
        optimise = importlib.import_module("coremltools.optimize.coreml")
        model = ct.convert(
            mil.program(weights, tokens),
            convert_to="mlprogram",
            compute_precision=ct.precision.FLOAT16,
            minimum_deployment_target=ct.target.iOS17,
            # It is never run here, and only macOS could.
            skip_model_load=True,
        )
        model.save(str(fp16))
        how = optimise.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=FEWEST)
        smaller = optimise.linear_quantize_weights(model, optimise.OptimizationConfig(global_config=how))
        smaller.save(str(int8))


def interface(package: Path) -> dict[str, dict[str, Any]]:
    """What a saved package says of itself: `inputs` and `outputs` with shape and type, and `specification`, the version
    of its format. Raises ValueError when it cannot be read."""
    with quiet():
        spec = importlib.import_module("coremltools").utils.load_spec(str(package))
    array = spec.description.input[0].type.multiArrayType
    types = array.DESCRIPTOR.fields_by_name["dataType"].enum_type.values_by_number

    def told(features: Any) -> dict[str, Any]:
        return {
            feature.name: {
                "shape": list(feature.type.multiArrayType.shape),
                "type": types[feature.type.multiArrayType.dataType].name.lower(),
            }
            for feature in features
        }

    return {
        "inputs": told(spec.description.input),
        "outputs": told(spec.description.output),
        "specification": spec.specificationVersion,
    }


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """coremltools draws a bar for each pass, and warns on import of each library that only macOS has."""
    logger = logging.getLogger("coremltools")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(before)
