import json
from pathlib import Path

import numpy as np
import pytest

from services.predictor.backtest import Part, backtest, plan
from services.predictor.champion import Champion
from services.predictor.features import CHANNELS, CONTEXT, LAGS
from services.predictor.forecast import HORIZONS


def write_trace(path: Path, steps: int = 800) -> Path:
    wave = 60 * (1 + 0.5 * np.sin(2 * np.pi * np.arange(steps) / 50))
    counts = np.random.default_rng(0).poisson(wave)
    path.write_text("timestamp,requests\n" + "".join(f"{60 * i},{c}\n" for i, c in enumerate(counts)))
    return path


def test_persistence_is_its_own_yardstick(champion: Champion) -> None:
    counts = np.random.default_rng(1).poisson(50, 300).astype(float)
    rows = backtest(counts, 1.0, champion, first=200)
    assert {row.model for row in rows} == {"lstm", "adapted", "persistence", "ar", "ets", "champion"}
    for row in rows:
        assert row.origins == 300 - 200 - max(HORIZONS) + 1
        if row.model == "persistence":
            assert row.pinball_ratio == 1.0
        else:
            assert row.mae_ratio < 0.9  # noise around a level: the last value is a poor guess


def test_gaps_in_a_trace_are_no_outcomes(champion: Champion) -> None:
    counts = np.random.default_rng(1).poisson(50, 200).astype(float)
    counts[150:160] = np.nan
    rows = backtest(counts, 1.0, champion, first=100)
    assert rows
    assert all(row.origins < 200 - 100 - max(HORIZONS) + 1 for row in rows)


def test_no_ratio_to_a_last_value_that_is_never_wrong(champion: Champion) -> None:
    assert backtest(np.full(200, 20.0), 1.0, champion, first=150) == []


def test_a_trace_too_short_for_an_origin_gives_no_rows(champion: Champion) -> None:
    assert backtest(np.ones(5), 1.0, champion, first=0) == []


def test_a_horizon_is_reached_with_the_shortest_step_and_what_cannot_be_judged_is_said() -> None:
    parts, notes = plan(60.0, 1000, [30, 60, 300, 600, 900, 90, 6e4])
    assert parts == [Part(1, (1, 5, 10)), Part(3, (5,))]
    assert [note.partition(" ")[0] for note in notes] == ["30", "90", "60000"]
    assert plan(1.0, 900, [30, 60]) == ([Part(3, (10,)), Part(6, (10,))], [])
    assert plan(1800.0, 1000) == ([Part(1, HORIZONS)], [])


def test_longer_steps_slide_by_the_bins_of_the_trace(champion: Champion) -> None:
    counts = np.random.default_rng(1).poisson(5, 900).astype(float)
    rows = backtest(counts, 5.0, champion, first=600, bins=5, steps=[1, 2])
    assert {(row.horizon_s, row.step_s) for row in rows} == {(5.0, 5.0), (10.0, 5.0)}
    assert all(row.origins == 300 - 10 + 1 for row in rows)


def test_the_record_before_the_judged_part_counts(champion: Champion) -> None:
    counts = np.random.default_rng(1).poisson(50, 400).astype(float)
    backtest(counts, 1.0, champion, first=380)
    assert champion.records["champion"].mae_ratio is not None


def test_training_writes_a_network_that_loads_and_a_card_that_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("jax")
    from services.predictor import corpus, network, train  # noqa: PLC0415
    from services.predictor.lstm import Lstm  # noqa: PLC0415

    out = tmp_path / "mine.onnx"
    trace = write_trace(tmp_path / "t.csv", steps=500)
    monkeypatch.setattr(train, "UPDATES", 150)
    monkeypatch.setattr(train, "START_BATCHES", 1)
    monkeypatch.setattr(corpus, "SYNTHETIC_SERIES", 8)
    train.train([trace], out, epochs=1, hidden=8)
    card = json.loads((tmp_path / "mine.card.json").read_text())
    assert card["deviation_from_jax"] <= 1e-5
    assert card["data"]["traces"] == ["t"]
    (table,) = card["backtest"]
    assert all(row["mae_ratio"] < 1.0 for row in table["rows"] if row["model"] == "lstm")
    Lstm(out).forecast(np.arange(1.0, 80.0), 1.0, 0.0)

    params = network.initial(8, seed=1)
    rng = np.random.default_rng(0)
    window = rng.normal(0, 3, (16, LAGS, len(CHANNELS))).astype(np.float32)
    context = rng.normal(0, 1, (16, len(CONTEXT))).astype(np.float32)
    params = {name: rng.normal(0, 0.2, value.shape).astype(np.float32) for name, value in params.items()}
    path = network.export(params, tmp_path / "random.onnx", {})
    assert network.deviation(params, path, window, context) <= 1e-5
