import json
import shutil
from pathlib import Path
from time import perf_counter

import numpy as np
import onnx
import pytest

from services.predictor.backtest import backtest
from services.predictor.card import table
from services.predictor.champion import Champion
from services.predictor.forecast import HORIZONS, ColdStart
from services.predictor.lstm import ARTEFACTS, MIN_STEPS, BadArtefact, Lstm


def sine(steps: int = 500, period: int = 40, noise: bool = True) -> np.ndarray:
    wave = 100 * (1 + 0.6 * np.sin(2 * np.pi * np.arange(steps) / period))
    return np.random.default_rng(5).poisson(wave).astype(float) if noise else wave


def ramps(steps: int = 500, noise: bool = True) -> np.ndarray:
    """Up in straight lines for 50 steps, down for 50: 40 to 400 requests per step."""
    wave = np.interp(np.arange(steps) % 100, [0, 50, 100], [40, 400, 40])
    return np.random.default_rng(6).poisson(wave).astype(float) if noise else wave


# Largest MAE ratio allowed at each horizon. With Poisson noise nobody gets below about 0.7 at one step: the
# noise of the step to come is most of the error.
NOISY = {1: 1.0, 2: 0.95, 3: 0.9, 5: 0.85, 10: 0.85}
CLEAN = dict.fromkeys(HORIZONS, 0.5)


@pytest.mark.parametrize(("noise", "margins"), [(True, NOISY), (False, CLEAN)])
@pytest.mark.parametrize("name", ["sine", "ramps"])
def test_it_beats_persistence_by_a_margin_where_traffic_has_a_shape(
    name: str, noise: bool, margins: dict[int, float], champion: Champion
) -> None:
    series = sine(noise=noise) if name == "sine" else ramps(noise=noise)
    rows = [row for row in backtest(series, 1.0, champion, first=100, every=4) if row.model == "lstm"]
    assert len(rows) == len(HORIZONS)
    for row in rows:
        assert row.mae_ratio <= margins[int(row.horizon_s)], row
        assert row.pinball_ratio <= 1.02, row


@pytest.mark.parametrize("name", ["sine", "ramps"])
def test_it_is_not_the_last_value_shifted_by_a_step(name: str, lstm: Lstm) -> None:
    series = sine(noise=False) if name == "sine" else ramps(noise=False)
    origins = range(100, 480)
    for index, horizon in ((0, 1), (2, 3), (3, 5)):
        medians = np.array([lstm.forecast(series[:o], 1.0, o).rates_rps[index, 2] for o in origins])
        to_come = np.array([series[o + horizon - 1] for o in origins])
        last = np.array([series[o - 1] for o in origins])
        assert np.abs(medians - to_come).mean() < 0.7 * np.abs(medians - last).mean()


def test_a_level_shift_of_ten_is_believed_within_a_few_steps(lstm: Lstm) -> None:
    rng = np.random.default_rng(8)
    before, after = rng.poisson(100, 120), rng.poisson(1000, 20)
    for seen, least in ((1, 300), (3, 700), (10, 850)):
        history = np.r_[before, after[:seen]].astype(float)
        forecast = lstm.forecast(history, 1.0, 0.0)
        assert forecast.at(1, 0.5) > least, seen
        assert forecast.at(1, 0.95) > 800, seen
    settled = lstm.forecast(np.r_[after, rng.poisson(100, 60)].astype(float), 1.0, 0.0)
    assert 85 < settled.at(1, 0.5) < 115


def test_a_constant_series_stays_where_it_is(lstm: Lstm) -> None:
    rates = lstm.forecast(np.full(100, 40.0), 1.0, 0.0).rates_rps
    np.testing.assert_allclose(rates[:, 2], 40.0, rtol=0.01)
    np.testing.assert_allclose(rates, 40.0, rtol=0.15)  # no quantile is certain that nothing will change


def test_too_little_history_is_a_cold_start(lstm: Lstm) -> None:
    with pytest.raises(ColdStart, match=str(MIN_STEPS)):
        lstm.forecast(np.ones(MIN_STEPS - 1), 1.0, 0.0)
    gaps = np.r_[np.ones(100), np.full(55, np.nan), np.ones(5)]
    with pytest.raises(ColdStart):
        lstm.forecast(gaps, 1.0, 0.0)
    assert lstm.forecast(np.ones(MIN_STEPS), 1.0, 0.0).model == "lstm"


def test_a_forecast_takes_two_milliseconds_at_most(lstm: Lstm) -> None:
    history = np.random.default_rng(0).poisson(50, 250).astype(float)
    times = []
    for _ in range(200):
        started = perf_counter()
        lstm.forecast(history, 1.0, 0.0)
        times.append(perf_counter() - started)
    assert float(np.median(times)) < 2e-3


def test_the_artefact_has_a_real_lstm_node_and_is_small() -> None:
    path = ARTEFACTS / "forecaster.onnx"
    assert path.stat().st_size <= 1_000_000
    operators = [node.op_type for node in onnx.load(str(path)).graph.node]
    assert operators.count("LSTM") == 1
    assert not {"Loop", "Scan"} & set(operators)


def test_a_network_that_is_not_the_cards_is_refused(tmp_path: Path) -> None:
    shutil.copytree(ARTEFACTS, tmp_path, dirs_exist_ok=True)
    network = bytearray((tmp_path / "forecaster.onnx").read_bytes())
    network[len(network) // 2] ^= 1
    (tmp_path / "forecaster.onnx").write_bytes(network)
    with pytest.raises(BadArtefact, match="sha256"):
        Lstm(tmp_path)


@pytest.mark.parametrize("card", [None, "not json", "[]", json.dumps({"sha256": {}})])
def test_a_network_without_a_usable_card_is_refused(card: str | None, tmp_path: Path) -> None:
    shutil.copy(ARTEFACTS / "forecaster.onnx", tmp_path)
    if card is not None:
        (tmp_path / "card.json").write_text(card)
    with pytest.raises(BadArtefact, match=r"card\.json"):
        Lstm(tmp_path)


def test_the_card_says_what_was_measured() -> None:
    card = json.loads((ARTEFACTS / "card.json").read_text())
    assert card["p50_ms"] <= 2.0
    assert card["deviation_from_jax"] <= 1e-5
    assert set(card["licence"]["data"]) == set(card["data"]["traces"])
    measured = {table["trace"] for table in card["backtest"]}
    assert measured == {*card["data"]["traces"], *card["data"]["unseen"]}
    rows = [row for table in card["backtest"] for row in table["rows"] if row["model"] == "lstm"]
    assert float(np.mean([row["mae_ratio"] for row in rows])) < 0.9


def test_the_readme_prints_the_cards_table() -> None:
    card = json.loads((ARTEFACTS / "card.json").read_text())
    assert table(card) in (ARTEFACTS.parent / "README.md").read_text()


def test_the_cards_table_can_be_measured_again(shared_traces: Path) -> None:
    name = "mooncake_conversation_3s"
    from services.predictor.backtest import run  # noqa: PLC0415

    card = json.loads((ARTEFACTS / "card.json").read_text())
    (printed,) = [table for table in card["backtest"] if table["trace"] == name]
    again = run(shared_traces / f"{name}.csv", ARTEFACTS)
    ours, theirs = ([row for row in table["rows"] if row["model"] == "lstm"] for table in (again, printed))
    for one, other in zip(ours, theirs, strict=True):
        assert one["mae_ratio"] == pytest.approx(other["mae_ratio"], abs=0.005)
        assert one["coverage_q95"] == pytest.approx(other["coverage_q95"], abs=0.005)
