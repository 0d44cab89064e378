"""The network in JAX, for training, and its export as ONNX with a real LSTM node, for serving.

    residual quantiles = linear(window, context) + head(last LSTM state, context)

The linear skip alone is an autoregression; the LSTM has to find only what that one misses.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime as ort

from models import emit
from services.predictor.corpus import Batch
from services.predictor.features import CHANNELS, CONTEXT, LAGS, Float32s
from services.predictor.forecast import HORIZONS, QUANTILES

OUTPUTS = len(HORIZONS) * len(QUANTILES)

HEAD = 48
"""Units of the layer between the LSTM's state and the quantiles."""

Params = dict[str, Any]

# Standard normal quantiles of QUANTILES: where the outputs start from, widened with the root of the horizon.
_Z = np.array([-1.645, -0.674, 0.0, 0.674, 1.282, 1.645, 2.326])


def initial(hidden: int, seed: int) -> Params:
    """Fresh weights: the linear skip and the head's last layer are zero, so the forecast is persistence."""
    keys = jax.random.split(jax.random.PRNGKey(seed), 3)
    features, context = len(CHANNELS), len(CONTEXT)
    uniform = jax.nn.initializers.variance_scaling(1.0, "fan_in", "uniform")
    bias = np.zeros(4 * hidden, np.float32)
    bias[hidden : 2 * hidden] = 1.0  # an open forget gate at the start (Jozefowicz et al., 2015)
    spread = np.outer(np.sqrt(HORIZONS), _Z).reshape(-1)
    return {
        "kernel": uniform(keys[0], (features, 4 * hidden)),
        "recurrent": jax.nn.initializers.orthogonal()(keys[1], (hidden, 4 * hidden)),
        "bias": jnp.asarray(bias),
        "head_w": uniform(keys[2], (hidden + context, HEAD)),
        "head_b": jnp.zeros(HEAD),
        "out_w": jnp.zeros((HEAD, OUTPUTS)),
        "out_b": jnp.asarray(spread, jnp.float32),
        "skip_w": jnp.zeros((LAGS * features, OUTPUTS)),
        "skip_context_w": jnp.zeros((context, OUTPUTS)),
    }


def apply(params: Params, window: jax.Array, context: jax.Array) -> jax.Array:
    """Residual quantiles [batch, horizon x quantile] for windows [batch, LAGS, channel] and contexts."""
    hidden = params["recurrent"].shape[0]
    projected = jnp.swapaxes(window, 0, 1) @ params["kernel"] + params["bias"]

    def step(carry: tuple[jax.Array, jax.Array], x: jax.Array) -> tuple[tuple[jax.Array, jax.Array], None]:
        h, c = carry
        i, f, g, o = jnp.split(x + h @ params["recurrent"], 4, axis=1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

    zero = jnp.zeros((window.shape[0], hidden))
    (state, _), _ = jax.lax.scan(step, (zero, zero), projected, unroll=4)
    inner = jax.nn.relu(jnp.concatenate([state, context], axis=1) @ params["head_w"] + params["head_b"])
    skip = window.reshape(window.shape[0], -1) @ params["skip_w"] + context @ params["skip_context_w"]
    return skip + inner @ params["out_w"] + params["out_b"]


def pinball(
    params: Params, window: jax.Array, context: jax.Array, residuals: jax.Array, weights: jax.Array
) -> Any:
    """Mean pinball loss over windows, horizons and quantiles; residuals, weights: [batch, horizon]."""
    predicted = apply(params, window, context).reshape(-1, len(HORIZONS), len(QUANTILES))
    error = residuals[:, :, None] - predicted
    levels = jnp.asarray(QUANTILES)
    loss = jnp.maximum(levels * error, (levels - 1.0) * error).mean(axis=2)
    return (loss * weights).sum() / jnp.maximum(weights.sum(), 1.0)


def export(params: Params, path: Path, metadata: dict[str, str]) -> Path:
    """Write the network as ONNX: window [batch, LAGS, channel], context [batch, feature] in,
    residuals [batch, horizon, quantile] and the LSTM's last state [batch, unit] out; returns `path`.
    """
    arrays = {name: np.asarray(value, np.float32) for name, value in params.items()}
    graph = emit.Graph("forecaster")
    window = graph.input("window", np.float32, ["batch", LAGS, len(CHANNELS)])
    context = graph.input("context", np.float32, ["batch", len(CONTEXT)])
    weights = emit.LstmWeights(arrays["kernel"].T, arrays["recurrent"].T, arrays["bias"])
    recurrent = emit.lstm(graph, graph.node("Transpose", [window], perm=[1, 0, 2]), [weights])
    last = emit.last_features(graph, recurrent)
    inner = graph.node("Concat", [last, context], axis=1)
    inner = graph.node("Relu", [emit.linear(graph, inner, arrays["head_w"], arrays["head_b"], name="head")])
    flat = graph.node("Reshape", [window, graph.constant("flat", [0, LAGS * len(CHANNELS)], np.int64)])
    parts = [
        emit.linear(graph, inner, arrays["out_w"], arrays["out_b"], name="out"),
        emit.linear(graph, flat, arrays["skip_w"], name="skip"),
        emit.linear(graph, context, arrays["skip_context_w"], name="skip_context"),
    ]
    total = graph.node("Sum", parts)
    shape = graph.constant("quantiles", [0, len(HORIZONS), len(QUANTILES)], np.int64)
    graph.output(
        graph.node("Reshape", [total, shape]),
        "residuals",
        np.float32,
        ["batch", len(HORIZONS), len(QUANTILES)],
    )
    graph.output(last, "state", np.float32, ["batch", arrays["recurrent"].shape[0]])
    return emit.save(graph, path, metadata=metadata)


def start_linear(params: Params, batches: Sequence[Batch], ridge: float = 0.02) -> Params:
    """Start the linear skip from a ridge regression of the residuals, the same line for every quantile.

    Gradient descent takes most of a short training to find this line; solving for it takes a second.
    """
    x = np.concatenate([_regressors(batch) for batch in batches])
    y = np.concatenate([np.clip(batch.residuals * batch.weights, -8.0, 8.0) for batch in batches])
    gram = x.T @ x / len(x) + ridge * np.eye(x.shape[1])
    line = np.repeat(np.linalg.solve(gram, x.T @ y / len(x)), len(QUANTILES), axis=1).astype(np.float32)
    flat = LAGS * len(CHANNELS)
    return {**params, "skip_w": jnp.asarray(line[:flat]), "skip_context_w": jnp.asarray(line[flat:])}


def deviation(params: Params, path: Path, window: Float32s, context: Float32s) -> float:
    """Largest difference between JAX and ONNX Runtime on these inputs, relative to max(1, |output|)."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    ours = np.asarray(apply(params, jnp.asarray(window), jnp.asarray(context)))
    theirs = session.run(None, {"window": window, "context": context})[0].reshape(ours.shape)
    return float(np.max(np.abs(ours - theirs) / np.maximum(1.0, np.abs(ours))))


def _regressors(batch: Batch) -> Float32s:
    return np.concatenate(
        [batch.encoded.window.reshape(len(batch.weights), -1), batch.encoded.context], axis=1
    )
