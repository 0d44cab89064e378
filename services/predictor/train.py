"""Train the forecaster on traces and write it as ONNX with its card.

    python -m services.predictor.train --trace FILE.csv [--trace ...] [--unseen FILE.csv ...] --out DIR

One global network learns from the first 75 % of every trace and from synthetic series; the card's table is a
rolling-origin backtest on the last 25 %, and on traces given by --unseen that it never saw at all.
"""

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from services.predictor import backtest, network
from services.predictor.champion import CONTEXT_STEPS
from services.predictor.corpus import FACTORS, SYNTHETIC_SHARE, TRAINING_SHARE, Batch, Corpus
from services.predictor.features import CHANNELS, CONTEXT, LAGS
from services.predictor.forecast import HORIZONS, QUANTILES
from services.predictor.lstm import Lstm
from services.predictor.traces import BadTrace, read

BATCH = 64
"""Windows per update."""

UPDATES = 800
"""Updates per epoch."""

PEAK_RATE = 5e-3
"""Learning rate after the warm-up; it falls to a hundredth along a cosine."""

TOLERANCE = 1e-5
"""Largest difference allowed between the network in JAX and its export, relative to max(1, |output|)."""


def fit(corpus: Corpus, *, hidden: int, epochs: int, seed: int) -> network.Params:
    """Minimise the pinball loss with Adam; prints the loss of each epoch. Returns the weights."""
    params = network.initial(hidden, seed)
    params = network.start_linear(params, [corpus.batch(4096) for _ in range(15)])
    schedule = optax.warmup_cosine_decay_schedule(1e-4, PEAK_RATE, 100, epochs * UPDATES, PEAK_RATE / 100)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))
    state = optimiser.init(params)

    @jax.jit  # type: ignore[untyped-decorator,unused-ignore]
    def update(params: Any, state: Any, *arrays: Any) -> tuple[Any, Any, Any]:
        loss, gradients = jax.value_and_grad(network.pinball)(params, *arrays)
        changes, state = optimiser.update(gradients, state)
        return optax.apply_updates(params, changes), state, loss

    started = time.monotonic()
    for epoch in range(epochs):
        losses = []
        for _ in range(UPDATES):
            params, state, loss = update(params, state, *arrays(corpus.batch(BATCH)))
            losses.append(loss)
        mean = float(jnp.stack(losses).mean())
        print(f"epoch {epoch + 1}/{epochs}: loss {mean:.4f}, {time.monotonic() - started:.0f} s", flush=True)
    return params


def arrays(batch: Batch) -> tuple[jax.Array, ...]:
    """A batch as network.pinball takes it."""
    parts = (batch.encoded.window, batch.encoded.context, batch.residuals, batch.weights)
    return tuple(jnp.asarray(part, jnp.float32) for part in parts)


def write_card(folder: Path, card: dict[str, Any]) -> None:
    """Write card.json with the hash of the network beside it."""
    digest = hashlib.sha256((folder / "forecaster.onnx").read_bytes()).hexdigest()
    text = json.dumps({**card, "sha256": {"forecaster.onnx": digest}}, indent=1)
    (folder / "card.json").write_text(text + "\n", encoding="utf-8")


def describe(options: argparse.Namespace, deviation: float, seconds: float) -> dict[str, Any]:
    """The card without its table: what was trained, on what, how."""
    return {
        "model": "forecaster",
        "version": "1",
        "task": "quantile forecast of arrivals per step",
        "network": f"LSTM, {options.hidden} units, residual over the last value, linear skip",
        "lags": LAGS,
        "channels": CHANNELS,
        "context": CONTEXT,
        "horizons_steps": HORIZONS,
        "quantiles": QUANTILES,
        "data": {
            "traces": [path.stem for path in options.trace],
            "unseen": [path.stem for path in options.unseen],
            "training_share": TRAINING_SHARE,
            "bins_added_up": FACTORS,
            "synthetic_share": SYNTHETIC_SHARE,
            "note": "a trace named 'resampled' is semi-synthetic below its source's bin width",
        },
        "licence": {
            "network": "Apache-2.0",
            "data": json.loads(options.licences.read_text(encoding="utf-8")) if options.licences else {},
        },
        "training": {
            "epochs": options.epochs,
            "updates": options.epochs * UPDATES,
            "batch": BATCH,
            "seed": options.seed,
            "seconds": round(seconds),
        },
        "deviation_from_jax": float(f"{deviation:.2g}"),
        "size_mb": round((options.out / "forecaster.onnx").stat().st_size / 1e6, 3),
    }


def p50_ms(folder: Path) -> float:
    """Median wall time of a forecast on one thread, normalisation included, in milliseconds."""
    forecaster = Lstm(folder)
    history = np.random.default_rng(1).poisson(50.0, CONTEXT_STEPS).astype(np.float64)
    times = [forecaster.forecast(history, 1.0, 0.0).compute_ms for _ in range(500)]
    return round(float(np.median(times)), 3)


def main() -> int:
    """Command line; exit code 2 for a trace that cannot be used, 1 for an export that deviates."""
    parser = argparse.ArgumentParser(prog="python -m services.predictor.train", description=__doc__)
    parser.add_argument(
        "--trace", type=Path, action="append", default=[], help="CSV to learn from (repeatable)"
    )
    parser.add_argument("--unseen", type=Path, action="append", default=[], help="CSV for the backtest only")
    parser.add_argument("--licences", type=Path, help="JSON {trace: licence}, goes into the card")
    parser.add_argument("--out", type=Path, required=True, help="folder for forecaster.onnx and card.json")
    parser.add_argument("--epochs", type=int, default=25, help=f"of {UPDATES} updates each")
    parser.add_argument("--hidden", type=int, default=48, help="units of the LSTM")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    try:
        corpus = Corpus([read(path) for path in options.trace], options.seed)
        for path in options.unseen:
            read(path)
    except BadTrace as error:
        print(error, file=sys.stderr)
        return 2
    started = time.monotonic()
    params = fit(corpus, hidden=options.hidden, epochs=options.epochs, seed=options.seed)
    seconds = time.monotonic() - started

    options.out.mkdir(parents=True, exist_ok=True)
    path = network.export(params, options.out / "forecaster.onnx", {"version": "1"})
    check = corpus.batch(256).encoded
    deviation = network.deviation(params, path, check.window, check.context)
    print(f"{path}: {path.stat().st_size / 1024:.0f} KiB, deviation from JAX {deviation:.1e}")
    if not deviation <= TOLERANCE:
        print(f"the export deviates from JAX by {deviation:.1e} (limit {TOLERANCE:.0e})", file=sys.stderr)
        return 1
    card = describe(options, deviation, seconds)
    write_card(options.out, card)
    card["p50_ms"] = p50_ms(options.out)
    tables = []
    for trace in options.trace:
        tables.append({**backtest.run(trace, options.out), "part": "last 25 %"})
    for trace in options.unseen:
        tables.append({**backtest.run(trace, options.out, start=0.0), "part": "all, unseen"})
    write_card(options.out, {**card, "backtest": tables})
    return 0


if __name__ == "__main__":
    sys.exit(main())
