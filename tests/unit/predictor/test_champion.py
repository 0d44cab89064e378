import numpy as np
import pytest

from services.predictor.champion import Champion
from services.predictor.forecast import HORIZONS, QUANTILES, ColdStart, Expert, Floats, Forecast, Origins
from services.predictor.persistence import Persistence
from services.predictor.seasons import Seasons
from services.predictor.served import served


class Stub(Expert):
    """Says the last value times `factor` with a narrow band."""

    name = "lstm"

    def __init__(self, factor: float = 1.0, cold: bool = False) -> None:
        self.factor = factor
        self.cold = cold

    def counts(self, origins: Origins) -> Floats:
        if self.cold:
            raise ColdStart("no history")
        band = self.factor * (1 + 0.02 * (np.asarray(QUANTILES) - 0.5))
        return np.repeat(origins.histories[:, -1:, None] * band, len(HORIZONS), axis=1)


class Knowing(Stub):
    """Says the mean of a Poisson series and its own quantiles."""

    def counts(self, origins: Origins) -> Floats:
        band = np.array([84, 93, 100, 107, 113, 117, 124], dtype=float) * self.factor
        return np.tile(band, (len(origins.nows), len(HORIZONS), 1))


def two(stub: Stub) -> Champion:
    return Champion([Persistence(), stub], [0.1, 0.9], Seasons())


def play(champion: Champion, series: Floats, first: int, step_s: float = 1.0) -> list[Forecast]:
    return [
        champion.forecast(series[:end], step_s, 1e9 + end * step_s) for end in range(first, len(series) + 1)
    ]


def noisy(steps: int = 200) -> Floats:
    return np.random.default_rng(4).poisson(100, steps).astype(float)


def test_persistence_answers_while_all_others_are_cold_and_says_so() -> None:
    stub = Stub(cold=True)
    champion = two(stub)
    assert champion.forecast(noisy(20), 1.0, 0.0).model == "persistence"
    stub.cold = False
    assert champion.forecast(noisy(21), 1.0, 1.0).model == "lstm"


def test_who_knows_the_series_gets_the_lead_and_the_answer_is_as_good_as_its() -> None:
    champion = two(Knowing())
    last = play(champion, noisy(), 20)[-1]
    assert last.model == "lstm"
    assert champion.weights["lstm"] > 0.95
    assert "lstm" in last.reason and "MAE 0." in last.reason
    np.testing.assert_allclose(last.rates_rps[:, 2], 100, rtol=0.05)


def test_a_leader_whom_the_series_leaves_is_demoted_within_ten_steps() -> None:
    stub = Knowing()
    champion = two(stub)
    assert play(champion, noisy(200), 20)[-1].model == "lstm"
    series = np.r_[noisy(200), np.random.default_rng(5).poisson(200, 60)].astype(float)
    models = [answer.model for answer in play(champion, series, 201)]
    assert "persistence" in models[:10]
    assert set(models[10:]) == {"persistence"}
    assert champion.forecast(series, 1.0, 1e9 + 260).at(1, 0.5) == pytest.approx(200, rel=0.2)


def test_a_leader_that_stays_right_is_not_demoted() -> None:
    models = {answer.model for answer in play(two(Knowing()), noisy(400), 40)}
    assert models == {"lstm"}


def test_one_that_was_wrong_comes_back_when_it_is_right() -> None:
    stub = Knowing(factor=3.0)
    champion = two(stub)
    assert play(champion, noisy(100), 20)[-1].model == "persistence"
    stub.factor = 1.0
    assert play(champion, noisy(700), 101)[-1].model == "lstm"


def test_the_answer_is_calibrated_where_its_makers_are_far_too_narrow() -> None:
    champion = two(Stub())
    series = noisy(1500)
    answers = play(champion, series, 20)
    for index, horizon in enumerate(HORIZONS):
        rows = np.array([answer.rates_rps[index] for answer in answers[300:-horizon]])
        came = series[20 + 300 + horizon - 1 :][: len(rows)]
        assert 0.93 <= (came <= rows[:, QUANTILES.index(0.95)]).mean() <= 0.97


def test_records_compare_with_the_last_value_on_the_same_origins() -> None:
    champion = two(Stub())
    play(champion, noisy(), 20)
    assert champion.records["lstm"].mae_ratio == pytest.approx(1.0, abs=1e-6)
    assert champion.records["persistence"].coverage_q95 == pytest.approx(0.95, abs=0.05)
    assert champion.records["champion"].mae_ratio is not None


def test_a_new_one_has_a_record_from_the_history_it_is_given() -> None:
    champion = two(Knowing())
    champion.forecast(noisy(200), 1.0, 1e9)
    assert champion.leader == "lstm"
    assert champion.records["champion"].mae_ratio is not None
    fresh = two(Knowing())
    fresh.forecast(noisy(1), 1.0, 1e9)
    assert fresh.records["champion"].mae_ratio is None


def test_steps_of_a_minute_that_slide_by_two_seconds_are_learned_from_once_a_step() -> None:
    champion = two(Stub())
    seconds = np.random.default_rng(2).poisson(5, 60 * 60).astype(float)
    for end in range(1800, 1800 + 130, 2):
        steps = seconds[end % 60 : end].reshape(-1, 60).sum(axis=1)
        champion.forecast(steps, 60.0, 1e9 + end)
    assert len(champion._ledger._kept) <= max(HORIZONS) + 1


def test_unknown_outcomes_and_repeated_calls_teach_nothing() -> None:
    champion = two(Stub())
    series = noisy(40)
    play(champion, series, 30)
    before = champion.records["lstm"].mae_ratio, champion._calibration.offsets.copy()
    first = champion.forecast(series, 1.0, 1e9 + 40)
    second = champion.forecast(series, 1.0, 1e9 + 40)
    np.testing.assert_array_equal(first.rates_rps, second.rates_rps)
    champion.forecast(np.r_[series[1:], np.nan], 1.0, 1e9 + 41)
    assert before[0] == champion.records["lstm"].mae_ratio
    np.testing.assert_array_equal(before[1], champion._calibration.offsets)


def test_what_it_remembers_is_bounded_and_survives_a_clock_set_back() -> None:
    champion = two(Stub())
    play(champion, noisy(), 20)
    assert len(champion._ledger._kept) <= max(HORIZONS) + 1
    back = champion.forecast(noisy(), 1.0, 5e8)
    assert np.isfinite(back.rates_rps).all()
    assert len(champion._ledger._kept) == 1


def test_another_step_length_starts_the_record_anew() -> None:
    champion = two(Stub())
    play(champion, noisy(60), 20)
    champion.forecast(noisy(1), 2.0, 2e9)
    assert champion.records["lstm"].mae_ratio is None


def test_the_same_calls_give_the_same_answers() -> None:
    one, two_ = play(two(Stub()), noisy(), 60), play(two(Stub()), noisy(), 60)
    for a, b in zip(one, two_, strict=True):
        np.testing.assert_array_equal(a.rates_rps, b.rates_rps)


@pytest.mark.parametrize("young", [True, False])
def test_the_origins_of_a_step_at_once_are_what_they_are_one_by_one(young: bool) -> None:
    """All experts, with a period to be found, bit for bit: the lab asks for a step at once, live each comes alone."""
    steps = np.random.default_rng(3).poisson(20 + 60 * (np.arange(700) % 30 < 6)).astype(float)
    seconds = np.repeat(steps / 6, 6)  # the origins are a sixth of a step apart
    alone, together = served(), served()
    for end in range(6 if young else 3000, 1200 if young else 4200, 6):
        rows = [seconds[at % 6 : at].reshape(-1, 6).sum(axis=1) for at in range(end, end + 6)]
        nows = tuple(1e6 + 10.0 * at for at in range(end, end + 6))
        ones = [alone.forecast(row, 60.0, now).rates_rps for row, now in zip(rows, nows, strict=True)]
        at_once = together.rates(Origins(np.stack([row[-end // 6 :] for row in rows]), 60.0, nows))
        np.testing.assert_array_equal(at_once, np.stack(ones))
    assert together.weights == alone.weights
    assert together.records["champion"].mae_ratio == alone.records["champion"].mae_ratio
