"""The simulated loop: the live policies over a load."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lab.fleet import Starts
from lab.foresight import Blind, Told, issue, known
from lab.load import Load, load
from lab.measures import measure, needed, percentile_ms
from lab.server import Server
from lab.simulator import Bounds, Hold, Run, simulate
from lab.trace import Trace
from services.autoscaler.decision import Decision, Reason
from services.autoscaler.observation import Observation
from services.autoscaler.policies import Hpa, Policy, Static
from services.autoscaler.policies.foresight import Foresight
from services.predictor.persistence import Persistence
from services.predictor.served import served

SERVER = Server()
CALM = Starts(30.0, jitter=0.0, failure=0.0)


def steps(*rates: float, minutes: int = 10, seed: int = 0) -> Load:
    counts = np.repeat(np.asarray(rates, dtype=np.float64) * 60, minutes)
    trace = Trace(np.arange(len(counts), dtype=np.float64) * 60.0, counts, 60.0, (), "steps")
    return load(trace, (0, len(counts)), 1.0, seed)


def ran(policy: Policy, over: Load, **more: object) -> Run:
    known_of: dict[str, object] = {
        "begin_with": 10,
        "bounds": Bounds(1, 100),
        "starts": CALM,
        "foresight": Blind(),
    }
    return simulate(policy, over, SERVER, **(known_of | more))  # type: ignore[arg-type]


class Recorder:
    """Keeps what it sees; wants what it is told."""

    name = "recorder"

    def __init__(self, wants: dict[float, int]) -> None:
        self.seen: list[Observation] = []
        self._wants = wants
        self._wanted = 10

    def decide(self, observation: Observation) -> Decision:
        self.seen.append(observation)
        self._wanted = self._wants.get(observation.now, self._wanted)
        return Decision(
            observation.now, self.name, self._wanted, observation.wanted, (Reason("told", "told"),)
        )


def test_what_a_policy_sees_is_what_was() -> None:
    over, policy = steps(30.0), Recorder({100.0: 14, 200.0: 8})
    run = ran(policy, over)
    at = {observation.now: observation for observation in policy.seen}
    assert list(at)[:3] == [0.0, 2.0, 4.0]
    assert at[0.0].arrivals == ()
    assert at[2.0].arrivals == tuple(over.arrivals[:2])
    assert at[400.0].arrivals == tuple(over.arrivals[280:400])
    assert (at[102.0].wanted, at[102.0].ready, at[102.0].starting) == (14, 10, 4)
    assert (at[130.0].ready, at[130.0].starting, at[130.0].start_delay_s) == (14, 0, 30.0)
    assert (at[202.0].wanted, at[202.0].ready, at[202.0].draining) == (8, 8, 6)
    assert at[210.0].draining == 0
    assert at[100.0].capacity_rps == pytest.approx(5, rel=0.1)
    assert at[100.0].mean_utilisation == pytest.approx(30 / 50, abs=0.05)
    assert run.wanted[[99, 100, 199, 200]].tolist() == [10, 14, 14, 8]
    assert run.ready[[129, 130]].tolist() == [10, 14]
    assert run.pods[[100, 205, 210]].tolist() == [14, 14, 8]


def test_the_same_run_is_the_same_bit_for_bit_and_another_seed_is_another() -> None:
    jittered = Starts(30.0, jitter=0.3, failure=0.2)
    one, two, other = (ran(Hpa(), steps(30.0, 90.0, 20.0, seed=seed), starts=jittered) for seed in (1, 1, 2))
    for name in ("wanted", "ready", "pods", "series", "histogram"):
        assert np.array_equal(getattr(one, name), getattr(two, name)), name
    assert not np.array_equal(one.series, other.series)


def test_the_bounds_hold_whatever_a_policy_says() -> None:
    run = ran(Recorder({0.0: 10_000}), steps(30.0), bounds=Bounds(2, 12))
    assert run.wanted.max() == 12
    assert ran(Recorder({0.0: -5}), steps(30.0), bounds=Bounds(2, 12)).wanted.min() == 2


def test_a_hold_keeps_the_replicas_for_its_time_only() -> None:
    over = steps(30.0, 90.0)
    free, held = ran(Hpa(), over), ran(Hpa(), over, hold=Hold(600, 900))
    assert np.array_equal(free.wanted[:600], held.wanted[:600])
    assert set(held.wanted[600:900]) == {held.wanted[599]}
    assert held.wanted[930] > held.wanted[899]
    assert held.series[600:900, 1].sum() > free.series[600:900, 1].sum()


def test_the_tick_that_is_asked_for_is_remembered() -> None:
    witnessed = ran(Hpa(), steps(30.0, 90.0), witness=645).witnessed
    assert witnessed is not None
    observation, decision = witnessed
    assert observation.now == 644
    assert decision.t == 644
    assert decision.reasons[0].text
    assert ran(Hpa(), steps(30.0)).witnessed is None


def test_the_oracle_is_never_late_and_wastes_little() -> None:
    over, bounds = steps(30.0, 90.0, 40.0, 150.0, 60.0), Bounds(1, 100)
    told = Told(known(over, noise=True, reach_s=90), over.began_at)
    run = ran(
        Foresight("oracle"),
        over,
        foresight=told,
        learns=False,
        begin_with=int(needed(over, SERVER, bounds)[0]),
    )
    figures = measure(run, over, SERVER, bounds)
    assert figures["tau_u"] == 0
    assert figures["scale_out_delay_all_s"] == 0
    assert figures["waste"] < 0.1
    blind = measure(ran(Hpa(), over), over, SERVER, bounds)
    assert blind["tau_u"] > 0.02
    assert blind["scale_out_delay_late_s"] > 15


def test_without_jitter_what_the_oracle_orders_comes_in_time_for_any_start_delay() -> None:
    over, bounds = steps(30.0, 90.0, 40.0), Bounds(1, 100)
    for delay in (5.0, 15.0, 60.0, 120.0):
        told = Told(known(over, noise=True, reach_s=2 * delay + 30), over.began_at)
        run = ran(Foresight("oracle"), over, foresight=told, learns=False, starts=Starts(delay, 0.0, 0.0))
        assert measure(run, over, SERVER, bounds)["tau_u"] == 0, delay


def test_measures_of_a_fixed_fleet_worked_out_by_hand() -> None:
    # 8.5 req/s need 2 of 4.25 req/s each; 3 are there: one third is too many, no request waits for long.
    over = steps(8.5)
    figures = measure(ran(Static(3), over, begin_with=3), over, SERVER, Bounds(1, 100))
    assert figures["waste"] == pytest.approx(1 / 3, abs=1e-6)
    assert (figures["tau_u"], figures["tau_o"], figures["theta_o"]) == (0, 1, 0.5)
    assert (figures["pod_hours"], figures["churn"]) == (0.5, 0)
    assert figures["p50_ms"] == pytest.approx(200, abs=1)
    assert figures["slo_violation"] == 0


def test_percentiles_of_a_histogram() -> None:
    histogram = np.zeros(10, dtype=np.int64)
    assert percentile_ms(histogram, 50) is None
    histogram[[2, 7]] = (98, 2)
    assert (percentile_ms(histogram, 50), percentile_ms(histogram, 99)) == (3.0, 8.0)


def test_forecasts_are_asked_for_with_windows_that_end_where_they_are_issued() -> None:
    over = steps(30.0, 60.0)
    issued = issue(Persistence(), over, step_s=60, every_s=30)
    told = Told(issued, over.began_at)
    assert told.view(0) is None  # not one step is known yet
    assert told.view(59) is None
    view = told.view(61)
    assert view is not None
    assert (view.issued_at, view.step_s) == (60.0, 60.0)
    assert view.rate_at(60, 0.5) == pytest.approx(over.arrivals[:60].mean(), rel=1e-5)
    later = told.view(1000)
    assert later is not None
    assert later.issued_at == 990.0
    assert later.rate_at(60, 0.5) == pytest.approx(over.arrivals[930:990].mean(), rel=0.2)


def test_informed_knows_the_intensity_and_not_the_noise() -> None:
    noisy = np.random.default_rng(5).poisson(50, 400).astype(np.float64)
    over = load(Trace(np.arange(400, dtype=np.float64) * 60.0, noisy, 60.0, (), "noisy"), (100, 400), 1.0, 0)
    told, all_known = known(over, noise=False, reach_s=60), known(over, noise=True, reach_s=60)
    median = told.rates_rps[:, 0, 2]
    assert median.std() < 0.35 * all_known.rates_rps[:, 0, 2].std()
    assert np.all(told.rates_rps[:, 0, 5] > median)
    assert np.array_equal(all_known.rates_rps[:, :, 0], all_known.rates_rps[:, :, 6])
    # Some 95 % of the bins lie below its 0.95 quantile.
    bins = over.rates_rps.reshape(-1, 60).mean(axis=1)
    at_middle = told.rates_rps[3::6, 0, 5]
    assert np.mean(bins <= at_middle) == pytest.approx(0.95, abs=0.04)


@pytest.mark.parametrize(("least", "most"), [(3, 2), (-1, 4), (0, 0)])
def test_bounds_that_exclude_all_are_refused(least: int, most: int) -> None:
    with pytest.raises(ValueError, match="min"):
        Bounds(least, most)


def test_a_policy_has_lived_through_the_hour_before() -> None:
    counts = np.repeat(np.asarray([30.0, 60.0]) * 60, 90)
    trace = Trace(np.arange(len(counts), dtype=np.float64) * 60.0, counts, 60.0, (), "steps")
    over, policy = load(trace, (90, 180), 1.0, 0), Recorder({5400.0 + 200: 14})
    run = ran(policy, over)
    before = [observation for observation in policy.seen if observation.now < over.began_at]
    assert [before[0].now - over.began_at, before[-1].now - over.began_at] == [-3600, -2]
    assert before[-1].arrivals == tuple(over.before[-122:-2])
    assert (before[-1].wanted, before[-1].ready, before[-1].starting) == (10, 10, 0)
    assert before[-1].mean_utilisation == pytest.approx(30 / 50, abs=0.15)
    assert len(run.ready) == len(over.arrivals)
    cold = Recorder({})
    ran(cold, over, warm_up_s=0)
    assert cold.seen[0].now == over.began_at


def test_forecasts_reach_into_the_hour_before() -> None:
    counts = np.full(180, 1800.0)
    trace = Trace(np.arange(len(counts), dtype=np.float64) * 60.0, counts, 60.0, (), "flat")
    over = load(trace, (90, 180), 1.0, 0)
    issued = issue(Persistence(), over, step_s=60, every_s=30)
    assert issued.first_s == -3600
    told = Told(issued, over.began_at)
    assert told.view(-3602) is None
    early = told.view(-1800)
    assert early is not None
    assert early.issued_at == over.began_at - 1800
    late = told.view(59)
    assert late is not None
    assert late.issued_at == over.began_at + 30


@pytest.mark.parametrize(("before_s", "every_s"), [(5400, 10), (97, 10), (97, 7), (1800, 60), (0, 20)])
def test_forecasts_that_are_asked_for_together_are_those_that_are_asked_for_alone(
    before_s: int, every_s: int
) -> None:
    whole = steps(30.0, 90.0, 60.0, minutes=40)
    over = replace(
        whole, began_at=float(before_s), before=whole.arrivals[:before_s], arrivals=whole.arrivals[before_s:]
    )
    issued, alone = issue(served(), over, step_s=60, every_s=every_s), served()
    for at, rates in enumerate(issued.rates_rps):
        end = before_s + issued.first_s + at * every_s
        if end < 60:
            assert np.isnan(rates).all()
            continue
        history = whole.arrivals[end % 60 : end].reshape(-1, 60).sum(axis=1).astype(float)
        one = alone.forecast(history, 60.0, float(end)).rates_rps
        np.testing.assert_array_equal(rates, one.astype(np.float32), err_msg=str(end))
