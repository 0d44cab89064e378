import json

import numpy as np
import pytest

from services.predictor.forecast import HORIZONS, Floats
from services.predictor.seasons import COARSE, Outlook, Seasons, _shape, find

RNG = np.random.default_rng(7)


def bursts(steps: int, every: int = 30) -> Floats:
    return RNG.poisson(40 + 300 * (np.arange(steps) % every < 3)).astype(float)


def run(series: Floats, step_s: float = 60.0, seasons: Seasons | None = None) -> Outlook | None:
    """Feed a series step by step, as a service would, and give the last word."""
    seasons = seasons or Seasons()
    outlook = None
    for end in range(1, len(series) + 1):
        outlook = seasons.observe(series[max(end - 20, 0) : end], step_s, 1e6 + end * step_s)
    return outlook


def test_bursts_of_each_half_hour_are_found_and_foretold() -> None:
    series = bursts(30 * 8 + 29)  # the next step is a burst's first
    outlook = run(series)
    assert outlook is not None
    assert outlook.periods_s[0] == pytest.approx(1800, rel=0.01)
    assert outlook.changes[0] < 0.3  # the last step of the quiet part is one step before
    later = run(bursts(30 * 9))
    assert later is not None
    assert later.changes[0] > 1.0  # log of 340 over 40 is 2.1


def test_a_day_of_minutes_is_found_in_some_days() -> None:
    minutes = np.arange(6 * 1440)
    series = RNG.poisson(100 * (1 + 0.8 * np.sin(2 * np.pi * minutes / 1440))).astype(float)
    outlook = Seasons().observe(series, 60.0, 1e6)
    assert outlook is not None
    assert outlook.periods_s == (86_400,)
    sine, cosine, *others = outlook.phases
    assert sine == pytest.approx(-1, abs=0.1)  # a quarter before the top
    assert abs(cosine) < 0.2
    assert others == [0, 0]


@pytest.mark.parametrize("kind", ["noise", "walk", "telegraph", "constant", "zeros"])
def test_no_period_is_found_where_there_is_none(kind: str) -> None:
    steps = 3000
    series = {
        "noise": RNG.poisson(50, steps).astype(float),
        "walk": 100 * np.exp(np.cumsum(RNG.normal(0, 0.03, steps))),
        "telegraph": RNG.poisson(20 + 80 * (np.cumsum(RNG.random(steps) < 0.02) % 2)).astype(float),
        "constant": np.full(steps, 40.0),
        "zeros": np.zeros(steps),
    }[kind]
    assert run(series) is None


def test_too_few_cycles_are_no_period() -> None:
    assert run(bursts(60)) is None


def test_a_gap_does_not_shift_the_phase() -> None:
    series = bursts(30 * 12)
    series[100:145] = np.nan
    outlook = run(series)
    assert outlook is not None
    assert outlook.changes[0] > 1.0


def test_memory_goes_on_between_grid_steps_and_asking_twice_changes_nothing() -> None:
    seasons = Seasons()
    series = bursts(30 * 9)
    run(series, seasons=seasons)
    now = 1e6 + len(series) * 60.0
    first = seasons.observe(series[-20:], 60.0, now)
    assert seasons.observe(series[-20:], 60.0, now) is first
    assert first is not None
    between = seasons.observe(series[-20:], 60.0, now + 30.0)
    assert between is not None
    assert between.changes.shape == (len(HORIZONS),)


def test_what_was_saved_comes_back_and_anything_else_is_refused() -> None:
    seasons = Seasons()
    series = bursts(30 * 9)
    run(series, seasons=seasons)
    now = 1e6 + len(series) * 60.0
    saved = json.loads(json.dumps(seasons.dump()))
    again = Seasons()
    assert again.restore(saved, 60.0, now + 5)
    outlook = again.observe(series[-20:], 60.0, now)
    assert outlook is not None
    assert outlook.changes[0] > 1.0
    assert not again.restore(saved, 1.0, now + 5)
    assert not again.restore(saved, 60.0, now - 3600)
    others: tuple[object, ...] = (None, [], {"at": 1}, saved | {"fine": ["many"]}, saved | {"fine": [-1.0]})
    for broken in others:
        assert not Seasons().restore(broken, 60.0, now + 5)


def test_a_look_back_in_a_replay_adds_nothing_twice() -> None:
    seasons = Seasons()
    series = bursts(30 * 9)
    run(series, seasons=seasons)
    before = seasons.dump()
    seasons.replaying = True
    seasons.observe(series[-20:-10], 60.0, 1e6 + (len(series) - 10) * 60.0)
    seasons.observe(series[-20:], 60.0, 1e6 + len(series) * 60.0)
    assert seasons.dump() == before


def test_a_clock_set_back_moves_the_memory_with_it() -> None:
    seasons = Seasons()
    series = bursts(30 * 9)
    run(series, seasons=seasons)
    moved = seasons.observe(series[-20:], 60.0, 5e5)
    assert moved is not None
    assert moved.changes[0] > 1.0


def test_memory_is_bounded() -> None:
    seasons = Seasons()
    seasons.observe(RNG.poisson(5, 60_000).astype(float), 1.0, 1e6)
    dumped = seasons.dump()
    assert len(dumped["fine"]) == len(dumped["coarse"]) == 4096
    assert COARSE * 4096 > 28 * 1440


def test_the_shortest_of_a_periods_multiples_is_taken() -> None:
    log = np.log1p(bursts(1200, every=40))
    found = find(log, 4, 480)
    assert found is not None
    assert found.length == pytest.approx(40, abs=0.2)


def test_edges_are_kept_and_noise_is_smoothed() -> None:
    """Pulses of 20 steps each 200 have an edge of one step; a slow wave under noise has none."""
    steps = np.arange(1000)
    edge = Seasons().observe(RNG.poisson(600 + 3000 * (steps % 200 < 20)).astype(float), 60.0, 1e6)
    assert edge is not None
    assert edge.changes[0] == pytest.approx(np.log1p(3600 / edge.level) - np.log1p(600 / edge.level), rel=0.1)
    wave = RNG.poisson(20 * (1.5 + np.sin(2 * np.pi * np.arange(1200) / 300))).astype(float)
    shape = _shape(np.log1p(wave / wave.mean()), 300.0)
    assert np.abs(np.diff(shape)).mean() < 0.5 * np.abs(np.diff(np.log1p(wave / wave.mean()))).mean()
