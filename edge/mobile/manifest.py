"""What an export tells of itself: its files, what was checked where it was made, and what no device has run."""

from __future__ import annotations

import hashlib
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from edge.mobile.sentences import Difference

if TYPE_CHECKING:
    from edge.mobile.export import Job

NAME = "manifest.json"

NOT_RUN = "not run on a device"

TOOLS = ("onnx", "onnxruntime", "coremltools")


def of(
    work: Job, padding: Difference, formats: dict[str, Any], left_out: dict[str, str], out: Path
) -> dict[str, Any]:
    """The manifest of everything that lies in `out` by now. left_out: file -> why the entry cannot be had as it."""
    artefact = work.artefact
    return {
        "model": work.entry.model,
        "tier": work.entry.tier,
        "version": work.entry.card.get("version"),
        "licence": work.entry.card.get("licence"),
        "tokens": work.tokens,
        "made_from": {path.name: digest for path, digest in artefact.sha256.items()},
        "made_with": {name: version for name in TOOLS if (version := _version(name))},
        "checked_on": {"sentences": len(work.sentences.rows), "cut": work.sentences.cut},
        # What padding alone does to the entry: nothing, unless it scales its activations as they come.
        "padding_of_entry": padding.described(),
        "device": NOT_RUN,
        "formats": {name: {**told, "device": NOT_RUN} for name, told in formats.items()},
        "left_out": left_out,
        "files": files(out),
    }


def files(out: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file below `out`, by its path there."""
    return {
        path.relative_to(out).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(out.rglob("*"))
        if path.is_file() and path != out / NAME
    }


def graph(path: Path) -> dict[str, Any]:
    """Operator sets, inputs and outputs of an ONNX file."""
    model = onnx.load(str(path))
    return {
        "opset": {one.domain or "ai.onnx": one.version for one in model.opset_import},
        "inputs": _told(model.graph.input),
        "outputs": _told(model.graph.output),
    }


def _told(values: Any) -> dict[str, dict[str, Any]]:
    return {
        value.name: {
            "shape": [dim.dim_value for dim in value.type.tensor_type.shape.dim],
            "type": onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
        }
        for value in values
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
