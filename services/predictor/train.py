"""Train the forecaster on traces and write it as ONNX with its card: `foremesh forecast train`.

One global network learns from the first 75 % of every trace and from synthetic series; the card's table is a
rolling-origin backtest on the last 25 %, and on traces given as unseen that it never saw at all.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from services.predictor import backtest, network
from services.predictor.card import write as write_card
from services.predictor.corpus import FACTORS, SYNTHETIC_SHARE, Batch, Corpus
from services.predictor.features import CHANNELS, CONTEXT, LAGS
from services.predictor.forecast import HORIZONS, QUANTILES
from services.predictor.lstm import Lstm, files
from services.predictor.traces import TRAINING_SHARE, read

BATCH = 64
"""Windows per update."""

UPDATES = 800
"""Updates per epoch."""

START_BATCHES = 15
"""Batches of 4096 windows that the linear skip is solved for."""

EPOCHS = 20
"""Epochs when nothing else is said."""

HIDDEN = 48
"""Units of the LSTM when nothing else is said."""

PEAK_RATE = 5e-3
"""Learning rate after the warm-up; it falls to a hundredth along a cosine."""

TOLERANCE = 1e-5
"""Largest difference allowed between the network in JAX and its export, relative to max(1, |output|)."""

Progress = Callable[[str, int, int], None]
"""What is being done, how much of it is done, how much there is."""


class BadExport(RuntimeError):
    """The network as exported does not answer as the one that was trained."""


def train(
    traces: Sequence[Path],
    out: Path,
    *,
    unseen: Sequence[Path] = (),
    licences: Mapping[str, str] | None = None,
    hidden: int = HIDDEN,
    epochs: int = EPOCHS,
    seed: int = 7,
    progress: Progress = lambda what, done, total: None,
) -> dict[str, Any]:
    """Train on `traces`, write the network to `out` (see lstm.files) and its card beside it; returns the card.

    unseen: traces for the card's backtest only. licences: licence of each trace, for the card. Raises BadTrace
    for a trace that can't be used, BadExport when the export deviates from what was trained.
    """
    corpus = Corpus(
        [read(path) for path in traces], seed, lambda done, total: progress("periods", done, total)
    )
    for path in unseen:
        read(path)
    started = time.monotonic()
    params = fit(corpus, hidden=hidden, epochs=epochs, seed=seed, progress=progress)
    seconds = time.monotonic() - started

    where, _ = files(out)
    where.parent.mkdir(parents=True, exist_ok=True)
    network.export(params, where, {"version": "1"})
    check = corpus.batch(256).encoded
    deviation = network.deviation(params, where, check.window, check.context)
    if not deviation <= TOLERANCE:
        raise BadExport(f"{where}: deviates from JAX by {deviation:.1e} (limit {TOLERANCE:.0e})")
    card: dict[str, Any] = {
        "model": "forecaster",
        "version": "1",
        "task": "quantile forecast of arrivals per step",
        "network": f"LSTM, {hidden} units, residual over the last value, linear skip",
        "lags": LAGS,
        "channels": CHANNELS,
        "context": CONTEXT,
        "horizons_steps": HORIZONS,
        "quantiles": QUANTILES,
        "data": {
            "traces": [path.stem for path in traces],
            "unseen": [path.stem for path in unseen],
            "training_share": TRAINING_SHARE,
            "bins_added_up": FACTORS,
            "synthetic_share": SYNTHETIC_SHARE,
            "note": "a trace named 'resampled' is semi-synthetic below its source's bin width",
        },
        "licence": {"network": "Apache-2.0", "data": dict(licences or {})},
        "training": {
            "epochs": epochs,
            "updates": epochs * UPDATES,
            "batch": BATCH,
            "seed": seed,
            "seconds": round(seconds),
        },
        "deviation_from_jax": float(f"{deviation:.2g}"),
        "size_mb": round(where.stat().st_size / 1e6, 3),
    }
    write_card(out, card)  # the backtest loads the network, which needs its card
    card["p50_ms"] = p50_ms(out)
    card["backtest"] = backtest.tables(
        traces, unseen, out, lambda name, done, total: progress(f"backtest {name}", done, total)
    )
    write_card(out, card)
    return card


def fit(
    corpus: Corpus,
    *,
    hidden: int,
    epochs: int,
    seed: int,
    progress: Progress = lambda what, done, total: None,
) -> network.Params:
    """Minimise the pinball loss with Adam. Returns the weights."""
    params = network.initial(hidden, seed)
    params = network.start_linear(params, [corpus.batch(4096) for _ in range(START_BATCHES)])
    schedule = optax.warmup_cosine_decay_schedule(1e-4, PEAK_RATE, 100, epochs * UPDATES, PEAK_RATE / 100)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))
    state = optimiser.init(params)

    @jax.jit  # type: ignore[untyped-decorator,unused-ignore]
    def update(params: Any, state: Any, *arrays: Any) -> tuple[Any, Any, Any]:
        loss, gradients = jax.value_and_grad(network.pinball)(params, *arrays)
        changes, state = optimiser.update(gradients, state)
        return optax.apply_updates(params, changes), state, loss

    loss: Any = jnp.nan
    for done in range(epochs * UPDATES):
        if done % 50 == 0:
            progress(f"training, loss {float(loss):.4f}", done, epochs * UPDATES)
        params, state, loss = update(params, state, *arrays(corpus.batch(BATCH)))
    progress("training", epochs * UPDATES, epochs * UPDATES)
    return params


def arrays(batch: Batch) -> tuple[jax.Array, ...]:
    """A batch as network.pinball takes it."""
    parts = (batch.encoded.window, batch.encoded.context, batch.residuals, batch.weights)
    return tuple(jnp.asarray(part, jnp.float32) for part in parts)


def p50_ms(out: Path) -> float:
    """Median wall time of the network's forecast on one thread, normalisation included, in milliseconds."""
    forecaster = Lstm(out)
    history = np.random.default_rng(1).poisson(50.0, 250).astype(np.float64)
    times = [forecaster.forecast(history, 1.0, float(at)).compute_ms for at in range(500)]
    return round(float(np.median(times)), 3)
