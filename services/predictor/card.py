"""The backtest table of the card for people: `python -m services.predictor.card` prints it as Markdown."""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from services.predictor.lstm import ARTEFACTS

MODELS = ("lstm", "champion")
"""Rows printed for each trace; persistence is the yardstick."""


def table(card: dict[str, Any]) -> str:
    """Markdown: per trace and model, ratios against persistence and q0.95 coverage, one value a horizon."""
    horizons = ", ".join(f"+{steps}" for steps in card["horizons_steps"])
    head = [
        f"| trace (step; part) | model | MAE ratio at {horizons} | pinball ratio | q0.95 coverage in % |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([*head, *_rows(card)])


def averages(card: dict[str, Any]) -> str:
    """Markdown: per model, the means over all traces and horizons, the worst MAE ratio, and where it is."""
    head = ["| model | mean MAE ratio | mean pinball ratio | worst MAE ratio |", "|---|---|---|---|"]
    names = sorted({row["model"] for table in card["backtest"] for row in table["rows"]} - {"champion"})
    lines = []
    for model in (*names, "champion"):
        rows = [
            (row, table["trace"])
            for table in card["backtest"]
            for row in table["rows"]
            if row["model"] == model
        ]
        worst, where = max(rows, key=lambda one: float(one[0]["mae_ratio"]))
        mae = sum(row["mae_ratio"] for row, _ in rows) / len(rows)
        pinball = sum(row["pinball_ratio"] for row, _ in rows) / len(rows)
        ahead = round(worst["horizon_s"] / worst["step_s"])
        lines.append(
            f"| {model} | {mae:.3f} | {pinball:.3f} | {worst['mae_ratio']:.2f} ({where}, +{ahead}) |"
        )
    return "\n".join([*head, *lines])


def _rows(card: dict[str, Any]) -> Iterator[str]:
    for measured in card["backtest"]:
        name = f"{measured['trace']} ({measured['step_s']:g} s; {measured['part']})"
        for model in MODELS:
            rows = [row for row in measured["rows"] if row["model"] == model]
            mae = " ".join(f"{row['mae_ratio']:.2f}" for row in rows)
            pinball = " ".join(f"{row['pinball_ratio']:.2f}" for row in rows)
            coverage = " ".join(f"{100 * row['coverage_q95']:.0f}" for row in rows)
            yield f"| {name} | {model} | {mae} | {pinball} | {coverage} |"


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m services.predictor.card", description=__doc__)
    parser.add_argument("--model", type=Path, default=ARTEFACTS, help="folder of card.json")
    options = parser.parse_args()
    card = json.loads((options.model / "card.json").read_text(encoding="utf-8"))
    print(table(card), averages(card), sep="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
