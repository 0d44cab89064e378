import numpy as np

from services.predictor.champion import Champion
from services.predictor.history import History, Verdict
from services.predictor.live import Live
from services.predictor.served import served

T = 1_800_000_000


def live(champion: Champion, step_s: int = 1, fine_step_s: int | None = None) -> Live:
    """The first champion that is asked for is `champion`, the others are new."""
    made = iter([champion])
    return Live(
        History(18_000, late_s=10),
        lambda: next(made, None) or served(),
        step_s=step_s, silence_s=5.0, started=0.0, fine_step_s=fine_step_s,
    )  # fmt: skip


def hear(live: Live, seconds: int, *, rate: float = 20.0, start: int = 0) -> None:
    counts = np.random.default_rng(start).poisson(rate, seconds)
    for offset, count in enumerate(counts.tolist(), start):
        assert live.hear("gateway", T + offset, count, now=T + offset, monotonic=offset) is Verdict.ACCEPTED


def test_nothing_heard_nothing_forecast(champion: Champion) -> None:
    quiet = live(champion)
    assert quiet.forecast(1.0) is None
    assert quiet.silent_for(1.0) == 1.0


def test_the_first_second_is_answered_by_persistence_and_soon_the_lstm_takes_over(champion: Champion) -> None:
    service = live(champion)
    hear(service, 1)
    first = service.forecast(1.0)
    assert first is not None
    assert (first.model, first.step_s, first.issued_at) == ("persistence", 1.0, T)
    hear(service, 19, start=1)
    later = service.forecast(20.0)
    assert later is not None
    assert later.model == "lstm"
    assert 15 < later.at(1, 0.5) < 25


def test_silence_is_not_forecast(champion: Champion) -> None:
    service = live(champion)
    hear(service, 30)
    assert service.forecast(29.0 + 4.9) is not None
    assert service.forecast(29.0 + 5.1) is None
    hear(service, 1, start=40)
    back = service.forecast(40.0)
    assert back is not None  # ten seconds are missing: a gap, not a fall to zero
    assert back.at(1, 0.5) > 10


def test_only_accepted_reports_end_a_silence(champion: Champion) -> None:
    service = live(champion)
    hear(service, 30)
    assert service.hear("gateway", T + 29, 5, now=T + 60, monotonic=60.0) is Verdict.DUPLICATE
    assert service.forecast(60.0) is None


def test_a_young_history_is_forecast_in_shorter_steps(champion: Champion) -> None:
    service = live(champion, step_s=60)
    seen: list[float] = []
    for start in range(0, 1260, 10):
        hear(service, 10, start=start)
        forecast = service.forecast(start + 9.0)
        assert forecast is not None
        assert 15 < forecast.at(forecast.step_s, 0.5) < 25
        if not seen or seen[-1] != forecast.step_s:
            seen.append(forecast.step_s)
    assert seen == [1, 2, 5, 10, 15, 30, 60]


def test_forecasts_are_fresher_than_their_step(champion: Champion) -> None:
    service = live(champion, step_s=10)
    hear(service, 300)
    first = service.forecast(299.0)
    hear(service, 2, start=300)
    second = service.forecast(301.0)
    assert first is not None
    assert second is not None
    assert first.step_s == second.step_s == 10
    assert second.issued_at - first.issued_at == 2


def test_after_an_outage_the_level_is_todays_and_not_that_of_before(champion: Champion) -> None:
    service = live(champion, step_s=60)
    hear(service, 3600, rate=20)
    hear(service, 25, rate=200, start=3600 + 3600)
    forecast = service.forecast(7225.0)
    assert forecast is not None
    assert forecast.step_s == 1
    assert 150 < forecast.at(1, 0.5) < 250


def test_the_usual_steps_champion_keeps_its_record_over_an_outage(champion: Champion) -> None:
    service = live(champion, step_s=10)
    hear(service, 900)
    service.forecast(899.0)
    record = champion.records["champion"].mae_ratio
    hear(service, 5, start=1800)
    during = service.forecast(1804.0)
    assert during is not None
    assert during.step_s < 10
    assert champion.records["champion"].mae_ratio == record is not None


def test_a_finer_step_is_forecast_beside_the_usual_one_when_asked(champion: Champion) -> None:
    service = live(champion, step_s=60, fine_step_s=5)
    hear(service, 1800)
    forecast = service.forecast(1799.0)
    assert forecast is not None
    assert forecast.horizons_s == (5, 10, 15, 25, 50, 60, 120, 180, 300, 600)
    assert forecast.rates_rps.shape == (10, 7)
    assert forecast.step_s == 60
    plain = live(served(), step_s=60)
    hear(plain, 1800)
    assert plain.forecast(1799.0).horizons_s == (60, 120, 180, 300, 600)  # type: ignore[union-attr]
