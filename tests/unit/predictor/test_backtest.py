import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from services.predictor.backtest import backtest
from services.predictor.champion import Champion
from services.predictor.features import CHANNELS, CONTEXT, LAGS
from services.predictor.forecast import HORIZONS

REPOSITORY = Path(__file__).parents[3]


def module(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"services.predictor.{name}", *map(str, arguments)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def write_trace(path: Path, steps: int = 800) -> Path:
    wave = 60 * (1 + 0.5 * np.sin(2 * np.pi * np.arange(steps) / 50))
    counts = np.random.default_rng(0).poisson(wave)
    path.write_text("timestamp,requests\n" + "".join(f"{60 * i},{c}\n" for i, c in enumerate(counts)))
    return path


def test_persistence_is_its_own_yardstick(champion: Champion) -> None:
    counts = np.random.default_rng(1).poisson(50, 300).astype(float)
    rows = backtest(counts, 1.0, champion, first=200)
    assert {row.model for row in rows} == {"lstm", "persistence", "champion"}
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


def test_a_constant_trace_is_no_division_by_zero(champion: Champion) -> None:
    rows = backtest(np.full(200, 20.0), 1.0, champion, first=150)
    assert {row.mae_ratio for row in rows if row.model == "persistence"} == {1.0}


def test_a_trace_too_short_for_an_origin_gives_no_rows(champion: Champion) -> None:
    assert backtest(np.ones(5), 1.0, champion, first=0) == []


def test_the_command_writes_the_table(tmp_path: Path) -> None:
    trace, out = write_trace(tmp_path / "t.csv"), tmp_path / "out.json"
    done = module("backtest", "--trace", trace, "--json", out, "--every", "3")
    assert done.returncode == 0, done.stderr
    table = json.loads(out.read_text())
    assert (table["trace"], table["step_s"]) == ("t", 60)
    assert {row["horizon_s"] for row in table["rows"]} == {60, 120, 180, 300, 600}


@pytest.mark.parametrize("name", ["backtest", "train"])
def test_a_bad_trace_ends_with_code_2_and_its_name(name: str, tmp_path: Path) -> None:
    pytest.importorskip("jax")
    bad = tmp_path / "bad.csv"
    bad.write_text("timestamp,requests\n0,1\n0,1\n")
    done = module(name, "--trace", bad, "--json" if name == "backtest" else "--out", tmp_path / "x")
    assert done.returncode == 2
    assert "bad.csv:3" in done.stderr
    assert "Traceback" not in done.stderr


def test_training_writes_a_network_that_loads_and_a_card_that_is_complete(tmp_path: Path) -> None:
    pytest.importorskip("jax")
    from services.predictor import network  # noqa: PLC0415
    from services.predictor.lstm import Lstm  # noqa: PLC0415

    out = tmp_path / "out"
    trace = write_trace(tmp_path / "t.csv")
    done = module("train", "--trace", trace, "--out", out, "--epochs", "1", "--hidden", "8")
    assert done.returncode == 0, done.stderr
    card = json.loads((out / "card.json").read_text())
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
