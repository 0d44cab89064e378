import numpy as np
import pytest

from services.predictor.champion import MEMORY_STEPS, TRIAL_STEPS, Champion
from services.predictor.forecast import HORIZONS, QUANTILES, ColdStart, Floats, Forecast
from services.predictor.persistence import Persistence


class Stub:
    """Says the last value times `factor` with a narrow band."""

    name = "lstm"

    def __init__(self, factor: float = 1.0, cold: bool = False) -> None:
        self.factor = factor
        self.cold = cold

    def forecast(self, history: Floats, step_s: float, now: float) -> Forecast:
        if self.cold:
            raise ColdStart("no history")
        counts = np.full((len(HORIZONS), len(QUANTILES)), history[-1] * self.factor)
        counts = counts * (1 + 0.02 * (np.asarray(QUANTILES) - 0.5))
        return Forecast.from_counts(
            counts, model=self.name, history=history, step_s=step_s, now=now, compute_ms=0.0
        )


def play(champion: Champion, series: Floats, first: int, step_s: float = 1.0) -> list[Forecast]:
    return [
        champion.forecast(series[:end], step_s, 1e9 + end * step_s) for end in range(first, len(series) + 1)
    ]


def noisy(steps: int = 200) -> Floats:
    return np.random.default_rng(4).poisson(100, steps).astype(float)


def test_persistence_answers_while_the_leader_is_cold_and_says_so() -> None:
    stub = Stub(cold=True)
    champion = Champion(stub, Persistence())
    assert champion.forecast(noisy(20), 1.0, 0.0).model == "persistence"
    stub.cold = False
    assert champion.forecast(noisy(21), 1.0, 1.0).model == "lstm"


def test_a_leader_that_is_wrong_is_demoted_after_its_trial_and_leads_again_when_right() -> None:
    stub = Stub(factor=3.0)
    champion = Champion(stub, Persistence())
    answers = play(champion, noisy(100), 20)
    who = [answer.model for answer in answers]
    fell = who.index("persistence")
    assert TRIAL_STEPS <= fell <= TRIAL_STEPS + 3
    assert set(who[fell:]) == {"persistence"}

    class Clairvoyant(Stub):
        def forecast(self, history: Floats, step_s: float, now: float) -> Forecast:
            band = np.array([84, 93, 100, 107, 113, 117, 124], dtype=float)  # Poisson's own
            counts = np.tile(band, (len(HORIZONS), 1))
            return Forecast.from_counts(
                counts, model=self.name, history=history, step_s=step_s, now=now, compute_ms=0.0
            )

    champion._leader = Clairvoyant()
    series = noisy(100 + int(8 * MEMORY_STEPS))
    assert play(champion, series, 101)[-1].model == "lstm"


def test_scores_compare_with_the_last_value_on_the_same_origins() -> None:
    champion = Champion(Stub(), Persistence())
    play(champion, noisy(), 20)
    assert champion.scores["lstm"].mae_ratio == pytest.approx(1.0, abs=1e-6)
    assert champion.scores["persistence"].coverage_q95 == pytest.approx(0.95, abs=0.05)
    assert champion.scores["champion"].mae_ratio is not None


def test_steps_of_a_minute_that_slide_by_two_seconds_are_scored_too() -> None:
    champion = Champion(Stub(), Persistence())
    seconds = np.random.default_rng(2).poisson(5, 60 * 60).astype(float)
    for end in range(1800, 1800 + 130, 2):
        steps = seconds[end % 60 : end].reshape(-1, 60).sum(axis=1)
        champion.forecast(steps, 60.0, 1e9 + end)
        # Before a whole step has passed nothing has come that was forecast.
        assert bool(champion.scores) == (end >= 1860)


def test_unknown_outcomes_and_repeated_calls_score_nothing() -> None:
    champion = Champion(Stub(), Persistence())
    series = noisy(40)
    play(champion, series, 30)
    before = champion.scores["lstm"].pinball
    champion.forecast(series, 1.0, 1e9 + 40)
    assert champion.scores["lstm"].pinball == before
    champion.forecast(np.r_[series[1:], np.nan], 1.0, 1e9 + 41)
    assert champion.scores["lstm"].pinball == before


def test_what_it_remembers_is_bounded_and_survives_a_clock_set_back() -> None:
    champion = Champion(Stub(), Persistence())
    play(champion, noisy(), 20)
    assert len(champion._issued) <= max(HORIZONS) + 2
    champion.forecast(noisy(), 1.0, 5e8)
    assert list(champion._issued) == [5e8]


def test_another_step_length_starts_the_record_anew() -> None:
    champion = Champion(Stub(), Persistence())
    play(champion, noisy(60), 20)
    champion.forecast(noisy(60), 2.0, 2e9)
    assert champion.scores == {}
    assert not champion.demoted
