"""`foremesh forecast train`: a forecaster from traffic of one's own."""

from __future__ import annotations

import json as jsonlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from foremesh.mesh import Failed
from foremesh.options import USAGE, exits, progress_bar

SETUP = "`python3 deploy/local/setup.py --train`"


@exits
def train(
    trace: Annotated[
        list[Path],
        typer.Option(
            help="CSV with columns timestamp,requests to learn from; may be repeated.", metavar="FILE.csv"
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(help="The network; its card comes beside it as NAME.card.json.", metavar="NAME.onnx"),
    ],
    unseen: Annotated[
        list[Path] | None,
        typer.Option(help="CSV for the card's backtest only; may be repeated.", metavar="FILE.csv"),
    ] = None,
    licences: Annotated[
        Path | None, typer.Option(help="JSON {trace: licence} for the card.", metavar="FILE.json")
    ] = None,
    epochs: Annotated[int, typer.Option(help="Of 800 updates each.", min=1)] = 20,
    seed: Annotated[int, typer.Option(help="Decides every random choice.")] = 7,
) -> None:
    """Train the network on traffic of your own; some ten minutes on one core.

    It learns from the first 75 % of every trace, at its own bins and at wider ones, and from synthetic series. The
    rest is judged as `foremesh forecast backtest` does it; the table, the data and the hash go into the card.

      foremesh forecast train --trace mine.csv --trace other.csv --out mine.onnx
      FOREMESH_FORECASTER=$PWD/mine.onnx foremesh up

    Exit codes: 0 written, 1 the packages for training are not installed or the export is not what was trained, 2 a
    file or option was wrong.
    """
    from services.predictor.traces import BadTrace  # noqa: PLC0415 (slow to import, as is the next)

    try:
        from services.predictor import train as training  # noqa: PLC0415
    except ModuleNotFoundError as missing:
        raise Failed(f"{missing.name} is not installed; {SETUP} brings it") from None
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        _check(out)
        with progress_bar(console, disable=not sys.stderr.isatty()) as progress:
            tasks: dict[str, Any] = {}

            def show(what: str, done: int, total: int) -> None:
                stage = what.partition(",")[0]
                if stage not in tasks:
                    tasks[stage] = progress.add_task(what, total=total)
                progress.update(tasks[stage], description=what, completed=done, total=total)

            card = training.train(
                trace,
                out,
                unseen=unseen or [],
                licences=_licences(licences),
                epochs=epochs,
                seed=seed,
                progress=show,
            )
    except (BadTrace, ValueError) as error:
        console.print(f"foremesh: {error}", markup=False)
        raise typer.Exit(USAGE) from None
    except training.BadExport as error:
        raise Failed(str(error)) from None
    from services.predictor.card import table  # noqa: PLC0415

    print(table(card))
    print(
        f"{out}: {card['size_mb']} MB, {card['p50_ms']} ms a forecast; serve it: FOREMESH_FORECASTER={out.absolute()}"
    )


def _check(out: Path) -> None:
    if out.suffix != ".onnx" and not out.is_dir():
        raise ValueError(f"--out: {out} does not end in .onnx; write a name such as mine.onnx")
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"--out: {out.parent} can't be made ({error.strerror}); name another folder"
        ) from None


def _licences(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    try:
        found = jsonlib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f'{path}: {error}; write JSON such as {{"mine": "CC BY 4.0"}}') from None
    if not isinstance(found, dict):
        raise ValueError(f'{path}: not an object; write JSON such as {{"mine": "CC BY 4.0"}}')
    return {str(name): str(licence) for name, licence in found.items()}
