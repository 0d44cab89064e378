"""Events as the page gets them: checked against the contracts, bounded, refused when they are broken."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from services.dashboard import events
from tests.browser import script

CONTRACTS = Path(__file__).parents[3] / "services" / "contracts"
T = 1_763_870_400.0


@pytest.mark.parametrize(
    ("topic", "event"),
    [
        ("traffic", script.traffic(T, random.Random(1), 2)),
        ("forecasts", script.forecast(T)),
        ("decisions", script.decision(T, 1, 1)),
    ],
)
def test_the_browser_tests_send_what_the_contracts_say(topic: str, event: dict[str, Any]) -> None:
    schema = json.loads((CONTRACTS / f"{topic}.schema.json").read_text("utf-8"))
    jsonschema.validate(event, schema)


def test_forecast_becomes_a_band() -> None:
    band = events.forecast(script.forecast(T, step_s=5, steps=4))
    assert band["t"] == [T + 5, T + 10, T + 15, T + 20]
    assert all(a < b < c for a, b, c in zip(band["q05"], band["q50"], band["q95"], strict=True))


@pytest.mark.parametrize(("lead_s", "expected"), [(0.0, 5.0), (5.0, 5.0), (5.1, 10.0), (99.0, 20.0)])
def test_lead_is_the_first_horizon_that_a_new_replica_can_meet(lead_s: float, expected: float) -> None:
    point = events.lead(events.forecast(script.forecast(T, step_s=5, steps=4)), lead_s)
    assert point["lead_s"] == expected and point["t"] == T + expected


@pytest.mark.parametrize(
    "changes",
    [
        {"rates_rps": []},
        {"rates_rps": [[1.0, 2.0]] * 18},
        {"quantiles": []},
        {"horizons_s": []},
        {"issued_at": "soon"},
        {"model": None},
    ],
)
def test_a_broken_forecast_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        events.forecast(script.forecast(T) | changes)


def test_traffic_without_a_finished_request_has_no_percentiles() -> None:
    event = script.traffic(T, random.Random(1), 1) | {"p50_ms": None, "p95_ms": None, "p99_ms": None}
    assert events.traffic(event).p50_ms is None


@pytest.mark.parametrize("changes", [{"arrivals": -1}, {"t": None}, {"shed": "many"}])
def test_broken_traffic_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        events.traffic(script.traffic(T, random.Random(1), 1) | changes)


def test_texts_of_a_decision_are_bounded() -> None:
    event = script.decision(T, 1, 1)
    event["reasons"] = [{"code": "c" * 500, "text": "t" * 5000}] * 100
    event["counterfactual"] = "x" * 5000
    decided = events.decision(event)
    assert len(decided.reasons) == events.MAX_REASONS
    assert len(decided.reasons[0].text) == events.MAX_TEXT
    assert decided.counterfactual is not None and len(decided.counterfactual) == events.MAX_TEXT
    assert events.replicas(decided) == {
        "t": T,
        "wanted": decided.wanted,
        "ready": 1,
        "starting": decided.starting,
    }
