import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.predictor import card
from services.predictor.backtest import FAN_STEPS, Fans, fans
from services.predictor.forecast import HORIZONS, QUANTILES
from services.predictor.lstm import ARTEFACTS
from services.predictor.picture import COLOURS, span, svg

SVG = "{http://www.w3.org/2000/svg}"


def table(trace: str, worst: float = 0.9) -> dict[str, Any]:
    rows = [
        {
            "horizon_s": 60.0 * h, "step_s": 60.0, "model": model, "mae_ratio": 0.8, "pinball_ratio": worst,
            "coverage_q95": 0.95,
        }
        for h in HORIZONS
        for model in (*COLOURS, "persistence")
    ]  # fmt: skip
    return {"trace": trace, "step_s": 60.0, "rows": rows, "notes": [], "part": "last 25 %"}


def words(text: str) -> list[str]:
    return [one.text or "" for one in ET.fromstring(text).iter(f"{SVG}text")]


def write_trace(path: Path, steps: int = 320) -> Path:
    counts = np.random.default_rng(0).poisson(60, steps)
    rows = [f"{60 * i},{c}\n" for i, c in enumerate(counts) if not steps - 60 < i < steps - 50]
    path.write_text("timestamp,requests\n" + "".join(rows))
    return path


def test_each_trace_has_its_three_panels_and_each_model_its_line_in_them() -> None:
    root = ET.fromstring(svg([table("one"), table("two")]))
    said = words(ET.tostring(root, encoding="unicode"))
    assert [text for text in said if text.startswith(("one: ", "two: "))] == [
        "one: steps of 1 min, last 25 %",
        "two: steps of 1 min, last 25 %",
    ]
    for colour in COLOURS.values():
        lines = [one for one in root.iter(f"{SVG}polyline") if one.get("stroke") == colour]
        assert len(lines) == 2 * 3
        assert all(len((one.get("points") or "").split()) == len(HORIZONS) for one in lines)
    assert set(COLOURS) <= set(said)
    assert "persistence" not in said  # it is the line at 1


def test_what_is_far_off_is_drawn_at_the_edge_and_not_beyond_it() -> None:
    root = ET.fromstring(svg([table("one", worst=40.0)]))
    height = float((root.get("viewBox") or "").split()[3])
    for line in root.iter(f"{SVG}polyline"):
        assert all(0 < float(point.split(",")[1]) < height for point in (line.get("points") or "").split())


def test_names_of_traces_are_text_and_no_markup() -> None:
    assert "a<b&c: steps of 1 min, last 25 %" in words(svg([table("a<b&c")]))


def test_nothing_judged_is_nothing_to_draw() -> None:
    for none in ([], [{**table("one"), "rows": []}]):
        with pytest.raises(ValueError, match="nothing to draw"):
            svg(none)


def test_fans_are_what_was_said_before_it_was_known_and_gaps_break_the_line(tmp_path: Path) -> None:
    said = fans(write_trace(tmp_path / "noise.csv"), ARTEFACTS)
    assert len(said.load) == FAN_STEPS
    assert said.rates.shape == (len(said.issued), len(HORIZONS), len(QUANTILES))
    assert max(said.issued) + max(HORIZONS) < FAN_STEPS
    drawn = svg([table("noise")], [said])
    black = [one for one in ET.fromstring(drawn).iter(f"{SVG}polyline") if one.get("stroke") == "#333"]
    assert len(black) == 2
    assert len(list(ET.fromstring(drawn).iter(f"{SVG}polygon"))) == 2 * len(said.issued)
    assert "nan" not in drawn.lower()


def test_a_trace_of_a_few_steps_has_a_line_and_no_fans() -> None:
    few = Fans("few", 60.0, np.arange(4.0), (), HORIZONS, np.empty((0, len(HORIZONS), len(QUANTILES))))
    assert "polygon" not in svg([table("few")], [few])


def test_the_card_is_drawn_with_a_panel_for_each_of_its_traces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.svg"
    trace = write_trace(tmp_path / "noise.csv")
    monkeypatch.setattr(sys, "argv", ["card", "--picture", str(out), "--fan", str(trace)])
    assert card.main() == 0
    said = words(out.read_text())
    measured = json.loads((ARTEFACTS / "card.json").read_text())["backtest"]
    for one in measured:
        assert sum(text.startswith(f"{one['trace']}: steps of") for text in said) == 1
    assert sum(text.startswith("noise: ") for text in said) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--picture", "/no/such/folder/out.svg"], "/no/such/folder"),
        (["--picture", "out.svg", "--fan", "absent.csv"], "absent.csv: cannot be read"),
        (["--model", "absent.onnx"], "absent.onnx"),
        (["--measure", "/no/such/folder"], "/no/such/folder"),
    ],
)
def test_what_cannot_be_read_or_written_is_named(
    words: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["card", *words])
    assert card.main() == 2
    assert says in capsys.readouterr().err


def test_measuring_again_writes_the_table_into_the_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    network = tmp_path / "mine.onnx"
    network.write_bytes((ARTEFACTS / "forecaster.onnx").read_bytes())
    card.write(
        network, {"data": {"traces": ["a"], "unseen": ["b"]}, "horizons_steps": HORIZONS, "backtest": []}
    )
    for name in ("a", "b"):
        write_trace(tmp_path / f"{name}.csv", steps=200)
    monkeypatch.setattr(sys, "argv", ["card", "--model", str(network), "--measure", str(tmp_path)])
    assert card.main() == 0
    measured = card.read(network)["backtest"]
    assert [(one["trace"], one["part"]) for one in measured] == [("a", "last 25 %"), ("b", "all, unseen")]
    assert all(one["rows"] for one in measured)
    assert "| a (60 s; last 25 %) | champion |" in capsys.readouterr().out


def test_times_are_written_as_people_do() -> None:
    assert [span(value) for value in (0.5, 90, 300, 7200)] == ["0.5 s", "90 s", "5 min", "2 h"]


def test_the_readmes_picture_is_of_the_cards_figures() -> None:
    drawn = (ARTEFACTS.parents[2] / "docs/forecasts.svg").read_text().splitlines()
    assert len("\n".join(drawn)) < 300_000
    figures = svg(card.read(ARTEFACTS)["backtest"]).splitlines()
    assert {line for line in figures if line.startswith("<polyline")} <= set(drawn)
