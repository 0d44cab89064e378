"""What a policy reads, and the message that a decision becomes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from services.autoscaler.counterfactual import counterfactual
from services.autoscaler.decision import Decision, Reason
from services.autoscaler.observation import ForecastView, Observation
from services.autoscaler.policies import CHOICES, policy_from
from tests.unit.autoscaler.conftest import T0, flat, seen

SCHEMA = Path(__file__).parents[3] / "services" / "contracts" / "decisions.schema.json"

MESSAGE: dict[str, Any] = {
    "issued_at": T0,
    "step_s": 2.0,
    "model": "lstm",
    "level_rps": 10.0,
    "horizons_s": [2.0, 4.0, 8.0],
    "quantiles": [0.1, 0.5, 0.9],
    "rates_rps": [[1, 10, 20], [2, 20, 40], [3, 30, 90]],
    "history_steps": 60,
    "compute_ms": 0.4,
}


@pytest.mark.parametrize(
    ("horizon", "quantile", "rate"),
    [
        (2, 0.5, 10),
        (3, 0.5, 15),
        (6, 0.9, 65),
        (4, 0.7, 30),
        (3, 0.7, 22.5),
        (0, 0.5, 10),  # before the first and after the last, the nearest holds
        (99, 0.5, 30),
        (8, 0.99, 90),
        (8, 0.01, 3),
    ],
)
def test_rate_between_horizons_and_quantiles(horizon: float, quantile: float, rate: float) -> None:
    assert ForecastView.from_message(MESSAGE).rate_at(horizon, quantile) == pytest.approx(rate)


def test_peak_sees_what_lies_between_the_ends() -> None:
    view = ForecastView(T0, 2.0, (2.0, 4.0, 6.0), (0.5,), ((10,), (50,), (20,)))
    assert view.peak(1, 9, 0.5) == 50
    assert view.peak(5, 9, 0.5) == pytest.approx(35)
    assert view.peak(2, 3, 0.5) == pytest.approx(30)
    assert view.peak(7, 7, 0.5) == 20


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"horizons_s": [4.0, 2.0, 8.0]}, "horizons_s"),
        ({"horizons_s": [], "rates_rps": []}, "horizons_s"),
        ({"horizons_s": [-1.0, 2.0, 8.0]}, "horizons_s"),
        ({"quantiles": [0.1, 0.5, 1.9]}, "quantiles"),
        ({"quantiles": [0.1, 0.1, 0.9]}, "quantiles"),
        ({"rates_rps": [[1, 2, 3]]}, "rows"),
        ({"rates_rps": [[1, 2, 3], [1, 2], [1, 2, 3]]}, "row"),
        ({"rates_rps": [[1, 2, float("nan")], [1, 2, 3], [1, 2, 3]]}, "finite"),
        ({"rates_rps": [[1, 2, -3], [1, 2, 3], [1, 2, 3]]}, "negative"),
        ({"rates_rps": [None, None, None]}, "forecast"),
        ({"rates_rps": [["a", 1, 2], [1, 2, 3], [1, 2, 3]]}, "could not convert"),
        ({"issued_at": None}, "forecast"),
        ({"issued_at": float("inf")}, "issued_at"),
        ({"step_s": 0}, "step_s"),
    ],
)
def test_what_is_no_forecast_is_refused(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        ForecastView.from_message(MESSAGE | change)


def test_a_forecast_without_a_field_is_refused() -> None:
    with pytest.raises(KeyError, match="quantiles"):
        ForecastView.from_message({k: v for k, v in MESSAGE.items() if k != "quantiles"})


def test_rates_leave_out_what_is_not_known() -> None:
    observation = seen(0, [100, None, 10, None, 20, 30])
    assert observation.known(4) == [10, 20, 30]
    assert observation.rate(4) == 20
    assert observation.rate(60) == 40
    assert seen(0, [5, None, None]).rate(2) is None
    assert seen(0, []).rate(6) is None


def test_utilisation_and_bounds() -> None:
    observation = seen(0, [], ready=3, utilisation=(0.2, 0.6), min_replicas=2, max_replicas=5)
    assert observation.mean_utilisation == pytest.approx(0.4)
    assert observation.unmeasured == 1
    assert seen(0, []).mean_utilisation is None
    assert [observation.bounded(n) for n in (0, 2.0000000000000004, 2.1, 9)] == [2, 2, 3, 5]


@pytest.mark.parametrize("fields", [{"min_replicas": 4, "max_replicas": 2}, {"capacity_rps": 0.0}])
def test_an_impossible_observation_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"replicas|capacity"):
        seen(0, [], **fields)


SHORT = "would serve {} req/s, {} short, queue bound ({}) reached in about {} s"


@pytest.mark.parametrize(
    ("wanted", "before", "demand", "text"),
    [
        (5, 3, 412, "without this step: 3 replicas " + SHORT.format(300, 112, 1500, 13)),
        (4, 3, 290, "without this step: 3 replicas would run at 97 %, 290 of 300 req/s"),
        (2, 4, 120, "without this step: 4 replicas would run at 30 % for 120 req/s"),
        (2, 2, 150, "with one replica fewer: 1 replica " + SHORT.format(100, 50, 500, 9)),
        (1, 1, 50, "with one replica more: 2 replicas would run at 25 % for 50 req/s"),
        (1, 0, 50, "without this step: nothing would serve 50 req/s"),
        (1, 1, None, None),
    ],
)
def test_counterfactual(wanted: int, before: int, demand: float | None, text: str | None) -> None:
    observation = seen(0, [], wanted=before, queue=50.0)
    otherwise = counterfactual(observation, wanted, demand, queue_bound=500)
    assert (None if otherwise is None else otherwise.text) == text


def every_decision() -> list[tuple[Observation, Decision]]:
    """One of each policy, known and unknown."""
    observations = [
        seen(0, [90] * 60, forecast=flat(0, 300), utilisation=(0.9,)),
        seen(0, [], capacity_rps=None, start_delay_s=None, min_replicas=0),
    ]
    specs = [choice.replace("N", "2") for choice in CHOICES]
    return [(o, policy_from(spec).decide(o)) for o in observations for spec in specs]


def test_the_event_says_all_there_is() -> None:
    observation = seen(0.12345, [90] * 60, forecast=flat(0, 300), utilisation=(0.9,), queue=3.0, starting=1)
    event = policy_from("predictive").decide(observation).to_event("inference", observation, applied=True)
    assert event == json.loads(json.dumps(event))
    reasons, foretold = event.pop("reasons"), event.pop("counterfactual")
    assert reasons[0]["code"] == "forecast"
    assert "100 req/s, 200 short" in foretold
    assert event == {
        "t": T0 + 0.123,
        "app": "inference",
        "policy": "predictive",
        "wanted": 4,
        "ready": 1,
        "starting": 1,
        "previous": 1,
        "applied": True,
        "observation": {
            "rate_rps": 90,
            "capacity_rps": 100,
            "start_delay_s": 3,
            "queue": 3,
            "utilisation": 0.9,
            "forecast_rps": 300,
        },
    }


def test_the_event_keeps_its_contract() -> None:
    schema = json.loads(SCHEMA.read_text())
    for observation, decision in every_decision():
        jsonschema.validate(decision.to_event("inference", observation, applied=False), schema)
    overruled = decision.overruled(3, Reason("start-guard", "just started"))
    jsonschema.validate(overruled.to_event("inference", observation, applied=True), schema)
