"""What every policy promises, on thousands of random observations of every kind."""

from __future__ import annotations

import random

import pytest
from msgspec.structs import replace

from services.autoscaler.decision import Decision
from services.autoscaler.observation import ForecastView, Observation
from services.autoscaler.policies import Policy, PolicyOptions, Static, policy_from
from tests.unit.autoscaler.conftest import T0, seen

SPECS = ["predictive", "hpa", "kpa", "kpa-concurrency", "keda", "persistence", "trend", "static:3"]
SEEDS = range(25)


def made(spec: str) -> Policy:
    if spec == "kpa-concurrency":
        return policy_from("kpa", PolicyOptions(kpa_metric="concurrency", kpa_concurrency=8))
    return policy_from(spec)


def walk(seed: int, ticks: int = 60) -> list[Observation]:
    """Ticks of a wild life: gaps, bursts, idling, unknowns, lost replicas, moving bounds, late ticks."""
    dice = random.Random(seed)
    now, history, observations = T0, [], []
    least = dice.randint(0, 2)
    most = least + dice.randint(0, 8)
    rate = dice.choice([0.0, 3.0, 80.0, 2000.0])
    for _ in range(ticks):
        now += dice.choice([2.0, 2.0, 2.0, 1.99, 2.3, 7.0, 40.0, -3.0])
        rate *= dice.choice([1.0, 1.0, 1.05, 0.9, 6.0, 0.1])
        for _ in range(2):
            history.append(None if dice.random() < 0.1 else round(dice.gauss(rate, rate**0.5)) if rate else 0)
        history = [None if n is None else max(0, n) for n in history[-120:]]
        if dice.random() < 0.05:
            most = max(least, most + dice.choice([-2, 2]))
        wanted, ready = dice.randint(0, most + 2), dice.randint(0, most + 2)
        row = sorted(dice.uniform(0, 3 * rate + 1) for _ in range(3))
        forecast = ForecastView(
            now - dice.choice([0.0, 1.0, 30.0, -100.0]),
            2.0,
            (2.0, 20.0),
            (0.1, 0.5, 0.99),
            (tuple(row), tuple(row)),
        )
        observations.append(
            Observation(
                now=now,
                arrivals=tuple(history),
                wanted=wanted,
                ready=ready,
                starting=dice.randint(0, 3),
                draining=dice.randint(0, 1),
                min_replicas=least,
                max_replicas=most,
                start_delay_s=dice.choice([None, 0.0, 1.5, 60.0]),
                capacity_rps=dice.choice([None, 0.01, 90.0, 1e6]),
                in_flight=dice.randint(0, 500),
                queue=dice.choice([0.0, 0.0, 700.0]),
                utilisation=tuple(dice.uniform(0, 1.3) for _ in range(dice.randint(0, ready))),
                forecast=dice.choice([None, forecast]),
            )
        )
    return observations


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("seed", SEEDS)
def test_within_bounds_with_reasons_and_the_same_each_time(spec: str, seed: int) -> None:
    observations = walk(seed)
    one, two = made(spec), made(spec)
    for observation in observations:
        decision = one.decide(observation)
        assert decision == two.decide(replace(observation)), "the same observations gave another decision"
        assert observation.min_replicas <= decision.wanted <= observation.max_replicas
        assert decision.previous == observation.wanted
        assert (decision.t, decision.policy) == (observation.now, one.name)
        for reason in decision.reasons:
            assert reason.code
            assert reason.text
            assert "nan" not in reason.text


@pytest.mark.parametrize("spec", ["predictive", "hpa", "kpa", "keda", "persistence", "trend"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_metric_gap_never_scales_down(spec: str, seed: int) -> None:
    policy = made(spec)
    dice = random.Random(seed)
    for observation in walk(seed):
        inside = observation.bounded(observation.wanted)
        gap = dice.random() < 0.5
        if gap:
            observation = replace(  # noqa: PLW2901
                observation, wanted=inside, arrivals=(*observation.arrivals[:-6], *[None] * 6), utilisation=()
            )
        decision = policy.decide(observation)
        if gap:
            assert decision.wanted >= inside, decision


@pytest.mark.parametrize("spec", SPECS)
def test_the_known_load_gives_a_counterfactual(spec: str) -> None:
    for rates, wanted in (([500] * 60, 1), ([5] * 60, 6), ([90] * 60, 2), ([0] * 60, 1)):
        decision = made(spec).decide(seen(0, rates, wanted=wanted, ready=wanted, utilisation=(0.5,) * wanted))
        assert decision.counterfactual
        assert decision.counterfactual.startswith(
            "without this step" if decision.changes else "with one replica"
        )


@pytest.mark.parametrize(
    "spec", ["hpaa", "", "static", "static:", "static:-1", "static:two", "static:²", "hpa:3", "kpa:", "HPA"]
)
def test_an_unknown_policy_is_refused_with_the_choices(spec: str) -> None:
    with pytest.raises(ValueError, match=r"predictive, hpa, kpa, keda, persistence, trend, static:N"):
        policy_from(spec)


def test_every_choice_is_made() -> None:
    assert [policy_from(spec).name for spec in ("predictive", "hpa", "kpa", " static:2 ")] == [
        "predictive",
        "hpa",
        "kpa",
        "static:2",
    ]
    assert Static(9).decide(seen(0, [], max_replicas=4)).wanted == 4


def test_a_decision_without_a_reason_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="no reason"):
        Decision(T0, "mine", 1, 1, ())
