"""The three topics as the page needs them: checked, bounded, and no more than is drawn.

Each function takes the data of one event and raises ValueError (msgspec's ValidationError) when it is not
what `services/contracts` says, so that the subscription drops it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

MAX_HORIZONS = 240
MAX_REASONS = 16
MAX_TEXT = 600

_Count = Annotated[float, msgspec.Meta(ge=0)]


class Traffic(msgspec.Struct):
    """One second of a gateway; rates are counts of that second, percentiles in milliseconds."""

    t: float
    arrivals: _Count
    answered: _Count
    shed: _Count
    failed: _Count
    in_flight: _Count = 0
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    instance: str = "gateway"


class _Forecast(msgspec.Struct):
    issued_at: float
    model: str
    horizons_s: list[float]
    quantiles: list[float]
    rates_rps: list[list[float]]
    step_s: float = 0
    level_rps: float = 0
    compute_ms: float | None = None


class _Reason(msgspec.Struct):
    code: str
    text: str


class _Observation(msgspec.Struct):
    rate_rps: float | None = None
    capacity_rps: float | None = None
    start_delay_s: float | None = None
    queue: float | None = None
    utilisation: float | None = None
    forecast_rps: float | None = None


class Decision(msgspec.Struct):
    """What the autoscaler decided, in whose name, and why."""

    t: float
    app: str
    policy: str
    wanted: int
    ready: int
    previous: int
    applied: bool
    reasons: list[_Reason]
    observation: _Observation
    starting: int = 0
    counterfactual: str | None = None


def traffic(data: dict[str, Any]) -> Traffic:
    """One second of traffic."""
    second = msgspec.convert(data, Traffic)
    second.instance = second.instance[:80]
    return second


def forecast(data: dict[str, Any]) -> dict[str, Any]:
    """The band of a forecast: `t` epoch seconds, `q05`, `q50`, `q95` requests per second, one per horizon."""
    given = msgspec.convert(data, _Forecast)
    low, middle, high = (_nearest(given.quantiles, wanted) for wanted in (0.05, 0.5, 0.95))
    horizons = given.horizons_s[:MAX_HORIZONS]
    rates = given.rates_rps[: len(horizons)]
    if not horizons or len(rates) < len(horizons) or any(len(row) != len(given.quantiles) for row in rates):
        raise ValueError("a forecast has one row of rates per horizon and one rate per quantile")
    return {
        "issued_at": given.issued_at,
        "model": given.model[:80],
        "step_s": given.step_s,
        "level_rps": given.level_rps,
        "compute_ms": given.compute_ms,
        "t": [given.issued_at + ahead for ahead in horizons],
        "q05": [round(row[low], 3) for row in rates],
        "q50": [round(row[middle], 3) for row in rates],
        "q95": [round(row[high], 3) for row in rates],
    }


def lead(band: dict[str, Any], lead_s: float) -> dict[str, Any]:
    """The point of a band that a replica ordered now would meet: its first horizon at or beyond `lead_s`."""
    ahead = [t - band["issued_at"] for t in band["t"]]
    index = next((i for i, seconds in enumerate(ahead) if seconds >= lead_s), len(ahead) - 1)
    return {
        "t": band["t"][index],
        "lead_s": ahead[index],
        "q05": band["q05"][index],
        "q50": band["q50"][index],
        "q95": band["q95"][index],
    }


def decision(data: dict[str, Any]) -> Decision:
    """A decision, its texts cut to a length that a page can show."""
    decided = msgspec.convert(data, Decision)
    decided.app, decided.policy = decided.app[:80], decided.policy[:80]
    decided.reasons = decided.reasons[:MAX_REASONS]
    for reason in decided.reasons:
        reason.code, reason.text = reason.code[:80], reason.text[:MAX_TEXT]
    if decided.counterfactual is not None:
        decided.counterfactual = decided.counterfactual[:MAX_TEXT]
    return decided


def replicas(decided: Decision) -> dict[str, Any]:
    """The replica counts that a decision saw, as one point of the replica chart."""
    return {"t": decided.t, "wanted": decided.wanted, "ready": decided.ready, "starting": decided.starting}


def _nearest(quantiles: Sequence[float], wanted: float) -> int:
    if not quantiles:
        raise ValueError("a forecast without quantiles")
    return min(range(len(quantiles)), key=lambda index: abs(quantiles[index] - wanted))
