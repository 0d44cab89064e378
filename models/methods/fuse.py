"""Fusion: ONNX Runtime's own operators in the file, instead of what it puts together itself when it loads one.

`MultiHeadAttention` with its bias and masked by lengths, `SkipLayerNormalization` with the bias before it, and
`BiasGelu`, exact and not by tanh, as training computes it: domain com.microsoft, version 1, beside opset 21.
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort

from models.intents import measure
from models.methods.row import Row
from models.methods.timing import VOCABULARY, measured, p50s
from models.minilm.export import export
from models.minilm.network import Encoder, Linear, parameters


@dataclass(frozen=True)
class Loaded:
    """A file as ONNX Runtime ran it. fused: with its own operators in the file; optimised: it optimised the graph at
    load; nodes: in the file; nodes_run: after loading; p50_ms: median milliseconds of one sentence, all in turns.

    MiniLM-L6 in FP32, one thread of a busy machine with two cores: 187 nodes in parts and 174 after loading, 84 and 77
    fused; with the optimiser on the fused file took 1.00 times as long at 11 tokens and 1.09 times at 64. Fewer nodes
    are no gain where the products take the time.
    """

    fused: bool
    optimised: bool
    nodes: int
    nodes_run: int
    p50_ms: float


def compare(
    encoder: Encoder, heads: Mapping[str, Linear], folder: Path, *, tokens: int = measure.SPEED_TOKENS
) -> list[Loaded]:
    """In parts and fused, each with ONNX Runtime's optimiser off and on, from two files written to `folder`."""
    files = {
        False: export(encoder, heads, folder / "parts.onnx"),
        True: export(encoder, heads, folder / "fused.onnx", fused=True),
    }
    kinds = [(fused, optimised) for fused in files for optimised in (False, True)]
    with tempfile.TemporaryDirectory() as name:
        loaded = [Path(name) / f"{number}.onnx" for number in range(len(kinds))]
        sessions = [
            _open(files[fused], optimised, as_run)
            for (fused, optimised), as_run in zip(kinds, loaded, strict=True)
        ]
        run = [_nodes(file) for file in loaded]
    times = p50s(sessions, tokens=tokens, vocabulary=min(VOCABULARY, int(encoder.tokens.shape[0])))
    return [
        Loaded(fused, optimised, _nodes(files[fused]), nodes, ms)
        for (fused, optimised), nodes, ms in zip(kinds, run, times, strict=True)
    ]


def row(encoder: Encoder, heads: Mapping[str, Linear], path: Path, *, top_k: int = 0, **told: Any) -> Row:
    """A fused encoder exported to `path` and measured. top_k: as in the export. told: further arguments of
    `models.methods.timing.measured`."""
    file = export(encoder, heads, path, top_k=top_k, fused=True)
    setting = "com.microsoft" + (f", k={top_k}" if top_k else "")
    return measured(file, "fuse", setting, parameters=parameters((encoder, dict(heads))), **told)


def _open(file: Path, optimised: bool, as_run: Path) -> ort.InferenceSession:
    """On one thread, as `models.intents.measure.open_session`; the graph that is run is written to `as_run`."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimised else level.ORT_DISABLE_ALL
    options.optimized_model_filepath = str(as_run)
    return ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def _nodes(file: Path) -> int:
    return len(onnx.load(str(file)).graph.node)
