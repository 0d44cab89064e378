"""A network's card: `python -m services.predictor.card` prints its backtest as Markdown, and measures it again."""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from services.predictor import backtest, picture
from services.predictor.lstm import ARTEFACTS, BadArtefact, files, verified

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


def read(where: Path) -> dict[str, Any]:
    """The card of the network at `where` (see lstm.files). Raises BadArtefact when it is none, or another's."""
    verified(where)
    card = json.loads(files(where)[1].read_text(encoding="utf-8"))
    return dict(card)


def write(where: Path, card: Mapping[str, Any]) -> None:
    """Write the card of the network at `where`, with the network's hash."""
    network, beside = files(where)
    digest = hashlib.sha256(network.read_bytes()).hexdigest()
    text = json.dumps({**card, "sha256": {network.name: digest}}, indent=1)
    beside.write_text(text + "\n", encoding="utf-8")


def measured(card: Mapping[str, Any], where: Path, traces: Path) -> dict[str, Any]:
    """The card with its backtest measured again, on the traces that it names, from a folder of NAME.csv."""
    known, unseen = ([traces / f"{name}.csv" for name in card["data"][key]] for key in ("traces", "unseen"))

    def told(name: str, done: int, total: int) -> None:
        if done == total:
            print(f"{name}: {total} forecasts", file=sys.stderr)

    return {**card, "backtest": backtest.tables(known, unseen, where, told)}


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m services.predictor.card", description=__doc__)
    parser.add_argument(
        "--model", type=Path, default=ARTEFACTS, help="network: NAME.onnx or a folder of forecaster.onnx"
    )
    parser.add_argument(
        "--measure", type=Path, metavar="DIR", help="backtest it again on the traces in DIR, into the card"
    )
    parser.add_argument("--picture", type=Path, metavar="OUT.svg", help="draw it")
    parser.add_argument(
        "--fan",
        type=Path,
        action="append",
        default=[],
        metavar="FILE.csv",
        help="trace drawn with its forecasts",
    )
    options = parser.parse_args()
    try:
        card = read(options.model)
        if options.measure:
            card = measured(card, options.model, options.measure)
            write(options.model, card)
        if options.picture:
            fans = [backtest.fans(path, options.model) for path in options.fan]
            options.picture.write_text(picture.svg(card["backtest"], fans), encoding="utf-8")
    except (BadArtefact, ValueError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    print(table(card), averages(card), sep="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
