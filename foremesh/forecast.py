"""`foremesh forecast ...`: how well the load of a trace is forecast, and forecasters of one's own."""

from __future__ import annotations

import json as jsonlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from foremesh.forecast_train import train
from foremesh.options import USAGE, exits, progress_bar, writable

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer(help="Judge forecasts of the load on a trace, and train on your own.", no_args_is_help=True)
app.command()(train)

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@app.callback()
def forecast() -> None:
    """Judge forecasts of the load on a trace, and train on your own."""


@app.command()
@exits
def backtest(
    trace: Annotated[Path, typer.Option(help="CSV with columns timestamp,requests.", metavar="FILE.csv")],
    horizon: Annotated[
        str | None,
        typer.Option(
            help="How far ahead, comma-separated: 30s,1m,5m,1h.", show_default="1,2,3,5,10 bins of the trace"
        ),
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="File to write the table to; - prints it instead of the table.")
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            help="Draw it as well, with forecasts over the load of the last bins.", metavar="OUT.svg"
        ),
    ] = None,
    last: Annotated[
        float,
        typer.Option(help="Share of the trace that is judged; 1 for a trace that no training saw.", max=1),
    ] = 0.25,
    model: Annotated[
        Path | None,
        typer.Option(
            help="Network: an .onnx file or a folder of forecaster.onnx.", show_default="the one served"
        ),
    ] = None,
) -> None:
    """Forecast the last part of a trace from every bin of it, as the service would have, and look what came.

    Ratios are against persistence on the same forecasts, so below 1 is better: mae_ratio, the error of the median,
    against the last value; pinball_ratio, the loss of all quantiles, against the last value with the quantiles of the
    series' own past changes. coverage_q95 should be near 95 %. The model `champion` is what the service would have
    answered; the others are what it is made of.

    A horizon is forecast with the shortest step that reaches it in 1, 2, 3, 5 or 10 steps. One shorter than the
    trace's bin, or too long for the part that is judged, is skipped, and a note says so.

      foremesh forecast backtest --trace mine.csv --horizon 1m,5m,10m --json table.json

    Next: foremesh forecast train --trace mine.csv --out mine.onnx

    Exit codes: 0 judged, 2 a file or option was wrong, or no horizon can be judged on this trace.
    """
    from services.predictor import backtest as judging  # noqa: PLC0415 (onnxruntime is slow to import)
    from services.predictor.lstm import ARTEFACTS, BadArtefact  # noqa: PLC0415
    from services.predictor.picture import svg  # noqa: PLC0415
    from services.predictor.traces import BadTrace  # noqa: PLC0415

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        horizons = None if horizon is None else seconds(horizon)
        if not 0 < last <= 1:
            raise ValueError(f"--last: {last:g}; write a share above 0, up to 1")
        if json is not None and str(json) != "-":
            json = writable("--json", json)
        if picture is not None:
            picture = writable("--picture", picture)
        with progress_bar(console, disable=not sys.stderr.isatty()) as progress:
            task = progress.add_task("forecasts")
            table: dict[str, Any] = judging.run(
                trace,
                model or ARTEFACTS,
                start=1.0 - last,
                horizons_s=horizons,
                progress=lambda done, total: progress.update(task, completed=done, total=total),
            )
        if not table["rows"]:
            raise ValueError(
                f"{trace}: no horizon can be judged ({'; '.join(table['notes'])}); "
                "ask for longer or shorter ones with --horizon, or for more of the trace with --last"
            )
        if picture is not None:
            drawn = svg([table], [judging.fans(trace, model or ARTEFACTS)])
            picture.write_text(drawn, encoding="utf-8")
    except (BadTrace, BadArtefact, ValueError) as error:
        console.print(f"foremesh: {error}", markup=False)
        raise typer.Exit(USAGE) from None
    for note in table["notes"]:
        console.print(f"  {note}", markup=False)
    text = jsonlib.dumps(table, indent=1)
    if str(json) == "-":
        print(text)
        return
    if json is not None:
        json.write_text(text + "\n", encoding="utf-8")
    Console(highlight=False).print(table_of(table))


def seconds(text: str) -> list[float]:
    """`30s,1m,1h` as seconds; a bare number is seconds. Raises ValueError for anything else."""
    found: list[float] = []
    for part in (one.strip() for one in text.split(",")):
        number, unit = (part[:-1], part[-1]) if part[-1:] in UNITS else (part, "s")
        try:
            value = float(number) * UNITS[unit]
        except ValueError:
            value = 0.0
        if not 0 < value < 366 * 86400:
            raise ValueError(f"--horizon: '{part}' is no time ahead; write such as 30s,1m,5m,1h")
        found.append(value)
    return found


def table_of(result: dict[str, Any]) -> Table:
    """The result for people: a row for each horizon and model, champion last."""
    from rich.table import Table  # noqa: PLC0415

    from services.predictor.picture import span  # noqa: PLC0415

    table = Table(
        box=None, header_style="bold", title=f"{result['trace']}: ratios to persistence, below 1 is better"
    )
    for name in ("ahead", "step", "model", "MAE ratio", "pinball ratio", "q0.95 coverage", "forecasts"):
        table.add_column(name, justify="left" if name in ("ahead", "step", "model") else "right")
    rows = sorted(
        result["rows"], key=lambda row: (row["horizon_s"], row["model"] == "champion", row["model"])
    )
    for row in rows:
        cells = (
            span(row["horizon_s"]), span(row["step_s"]), row["model"], f"{row['mae_ratio']:.3f}",
            f"{row['pinball_ratio']:.3f}", f"{100 * row['coverage_q95']:.1f} %", str(row["origins"]),
        )  # fmt: skip
        table.add_row(*cells, style="bold" if row["model"] == "champion" else None)
    return table
