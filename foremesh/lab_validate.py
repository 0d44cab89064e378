"""`foremesh lab validate`: the simulator beside a live mesh that met the same arrivals under the same policy."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Annotated, Any

import typer

from foremesh.options import USAGE, Json, exits


@exits
def validate(
    live: Annotated[
        Path, typer.Argument(help="What `foremesh demo --json FILE` wrote.", metavar="LIVE.json")
    ],
    trace: Annotated[Path, typer.Option(help="The trace of that demo.")],
    out: Annotated[
        Path, typer.Option(help="Folder of a run; `foremesh lab report` shows it there. Is made.")
    ],
    seeds: Annotated[int, typer.Option(help="Simulations.", min=1, max=100)] = 5,
    json: Json = False,
) -> None:
    """Simulate what a live mesh has just done, and put both beside each other.

    The arrivals are those of the live run, bit for bit; policy, forecaster, measured capacity and start delay are its
    own.

      foremesh demo --exit --json live.json
      foremesh lab validate live.json --trace lab/data/demo_trace.csv --out results

    Next: foremesh lab report DIR

    Exit codes: 0 done, 2 a file was wrong.
    """
    from rich.console import Console  # noqa: PLC0415

    from lab.bad_input import BadInput  # noqa: PLC0415 (numpy and numba are slow to import)
    from lab.report import VALIDATION  # noqa: PLC0415
    from lab.trace import read_trace  # noqa: PLC0415
    from lab.validation import read_live  # noqa: PLC0415
    from lab.validation import validate as simulated  # noqa: PLC0415

    try:
        found = simulated(read_live(live), read_trace(trace), seeds=seeds)
        out.mkdir(parents=True, exist_ok=True)
        (out / VALIDATION).write_text(jsonlib.dumps(found, indent=1) + "\n", encoding="utf-8")
    except (BadInput, ValueError) as e:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"foremesh: {e}", markup=False)
        raise typer.Exit(USAGE) from None
    if json:
        print(jsonlib.dumps(found))
    else:
        show(found)


def show(found: dict[str, Any]) -> None:
    """Print the figures side by side."""
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("figure", "live", "simulated", "least", "most"):
        table.add_column(name, justify="left" if name == "figure" else "right")
    for name, pair in found["figures"].items():
        known = [value for value in pair["simulated"] if value is not None]
        cells = [sum(known) / len(known), min(known), max(known)] if known else [None] * 3
        table.add_row(name, *("-" if value is None else f"{value:.4g}" for value in (pair["live"], *cells)))
    console = Console(highlight=False)
    console.print(table)
    for one in found["differences"]:
        console.print(f"  {one}")
