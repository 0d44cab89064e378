"""A mesh at work, as events: waves of traffic, forecasts that see them coming, decisions."""

from __future__ import annotations

import math
import random
from typing import Any

QUANTILES = [0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99]
CAPACITY_RPS = 60.0


def rate(t: float) -> float:
    """Requests per second at `t`: two waves and a burst."""
    wave = 92 + 52 * math.sin(t / 17) + 20 * math.sin(t / 7 + 1)
    return max(5.0, wave)


def traffic(t: float, rng: random.Random, ready: int) -> dict[str, Any]:
    """The event of the second that ends at `t`."""
    arrivals = max(0, round(rng.gauss(rate(t), 4)))
    shed = max(0, round(arrivals - 1.12 * CAPACITY_RPS * ready))
    p50 = 5.5 + 4 * min(1.5, arrivals / (CAPACITY_RPS * ready)) ** 3 + rng.random()
    return {
        "t": t,
        "arrivals": arrivals,
        "answered": arrivals - shed,
        "shed": shed,
        "failed": 0,
        "in_flight": max(1, arrivals // 20),
        "p50_ms": round(p50, 2),
        "p95_ms": round(p50 * (1.9 + 0.5 * rng.random()), 2),
        "p99_ms": round(p50 * (3.0 + 2 * rng.random()), 2),
        "instance": "gateway",
    }


def forecast(t: float, step_s: float = 5.0, steps: int = 18) -> dict[str, Any]:
    """A forecast issued at `t`, wider the further it looks."""
    horizons = [step_s * (i + 1) for i in range(steps)]
    spread = [-1.64, -0.67, 0.0, 0.67, 1.28, 1.64, 2.33]
    rates = [[max(0.0, rate(t + ahead) + z * (5 + 0.28 * ahead)) for z in spread] for ahead in horizons]
    return {
        "issued_at": t,
        "step_s": step_s,
        "model": "lstm",
        "level_rps": rate(t),
        "horizons_s": horizons,
        "quantiles": QUANTILES,
        "rates_rps": rates,
        "history_steps": 60,
        "compute_ms": 2.4,
    }


def wanted(t: float) -> int:
    """Replicas for what the forecast's upper quantile says about the next seconds."""
    return max(1, min(4, math.ceil((rate(t + 6) + 8) / CAPACITY_RPS)))


def decision(t: float, previous: int, ready: int, text: str = "") -> dict[str, Any]:
    """The decision at `t`, with its reasons."""
    ahead, now = rate(t + 6), rate(t)
    want = wanted(t)
    change = "forecast-rise" if want > previous else "forecast-fall" if want < previous else "within-band"
    said = text or (
        f"in 1.8 s, when a replica ordered now would be ready, {ahead:.0f} requests per second are expected"
        f" (q0.90 {ahead + 8:.0f}); one replica carries {CAPACITY_RPS:.0f}"
    )
    return {
        "t": t,
        "app": "inference",
        "policy": "predictive",
        "wanted": want,
        "ready": ready,
        "starting": max(0, want - ready),
        "previous": previous,
        "applied": want != previous,
        "reasons": [{"code": change, "text": said}],
        "observation": {
            "rate_rps": now,
            "capacity_rps": CAPACITY_RPS,
            "start_delay_s": 1.8,
            "queue": 2,
            "utilisation": 0.6,
            "forecast_rps": ahead,
        },
        "counterfactual": (
            f"on the load of now alone ({now:.0f} requests per second) it would have been"
            f" {max(1, math.ceil(now / CAPACITY_RPS))}"
        ),
    }
