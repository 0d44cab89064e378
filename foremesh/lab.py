"""`foremesh lab ...`: autoscaling policies compared on traffic traces, simulated."""

from __future__ import annotations

import json as jsonlib
import os
import signal
import time
from pathlib import Path
from typing import Annotated

import typer

from foremesh.lab_show import explain, report
from foremesh.lab_validate import validate
from foremesh.mesh import Failed
from foremesh.options import FAILED, USAGE, Json, exits, progress_bar

app = typer.Typer(
    help="Compare scaling policies on traffic traces: the live policies, simulated replicas.",
    no_args_is_help=True,
)
app.command()(report)
app.command()(explain)
app.command()(validate)

POLICIES = "hpa,hpa-tuned,kpa,keda,persistence,trend,predictive,oracle,informed"


@app.callback()
def lab() -> None:
    """Compare scaling policies on traffic traces: the live policies, simulated replicas."""


@app.command()
@exits
def run(
    trace: Annotated[
        list[Path], typer.Option(help="CSV with columns timestamp,requests; may be given several times.")
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for results.json and what report and explain read; is made.")
    ],
    policies: Annotated[
        str, typer.Option(help="Names, comma-separated, and your own as ./mine.py:MyPolicy.")
    ] = POLICIES,
    start_delay: Annotated[
        str, typer.Option(help="Seconds from the order to a ready replica, comma-separated, above 0.")
    ] = "30",
    seeds: Annotated[
        int, typer.Option(help="Draws of arrivals and start delays for each run.", min=1, max=1000)
    ] = 1,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Also each policy over its own knob, for fronts.")
    ] = False,
    last: Annotated[
        float,
        typer.Option(help="Share of each trace that is judged; before it is history.", min=0.001, max=1),
    ] = 0.25,
    until: Annotated[
        float,
        typer.Option(
            help="Share of each trace at which that part ends; 0.75 keeps the last quarter unseen.",
            min=0.001,
            max=1,
        ),
    ] = 1.0,
    days: Annotated[
        float | None, typer.Option(help="Where that is longer: its busiest so many days.", min=0.001)
    ] = None,
    capacity: Annotated[
        float, typer.Option(help="Requests/s that keep one replica busy all the time.", min=0.001)
    ] = 5.0,
    scale: Annotated[
        float | None,
        typer.Option(
            help="Requests of a run per request of the trace; default: 20 replicas needed on average.", min=0
        ),
    ] = None,
    least: Annotated[int, typer.Option("--min", help="Fewest replicas.", min=0)] = 1,
    most: Annotated[
        int | None, typer.Option("--max", help="Most replicas; default: twice what the peak needs.", min=1)
    ] = None,
    deadline_ms: Annotated[
        float, typer.Option(help="A request that would wait longer is shed.", min=1)
    ] = 2000.0,
    slo_ms: Annotated[float, typer.Option(help="What an answer may take.", min=1)] = 1000.0,
    jitter: Annotated[float, typer.Option(help="Spread of start delays, as a share.", min=0, max=2)] = 0.1,
    failure: Annotated[
        float, typer.Option(help="Share of starts that fail and begin anew.", min=0, max=0.9)
    ] = 0.01,
    drain: Annotated[float, typer.Option(help="Seconds in which a replica that goes drains.", min=0)] = 10.0,
    forecast_step: Annotated[
        int, typer.Option(help="Step of the forecaster in seconds.", min=1, max=3600)
    ] = 60,
    forecast_every: Annotated[int, typer.Option(help="Seconds from one forecast to the next.", min=1)] = 10,
    jobs: Annotated[int | None, typer.Option(help="Processes at a time; default: one a core.", min=1)] = None,
    json: Json = False,
) -> None:
    """Run policies over traces and write DIR/results.json, one row a run.

    The policies are the very objects that scale a live mesh. A request meets a queue, a batching server, a deadline;
    a replica takes its start delay, may fail to start, drains before it goes. The same seed gives the same run bit for
    bit. Traffic is scaled so that 20 replicas are needed on average, unless --scale says otherwise.

    A policy of your own is a Python file with a class whose decide(observation) returns a decision:

      foremesh lab run --trace mine.csv --policies hpa,predictive,./mine.py:MyPolicy --out results

    If it breaks, its rows hold the traceback and all others their figures.

    Next: foremesh lab report DIR; foremesh lab explain DIR --at 12:34

    Exit codes: 0 done, 1 every row failed, 2 a file or option was wrong, 130 ended by a signal: DIR holds the rows that
    were done.
    """
    from concurrent.futures.process import BrokenProcessPool  # noqa: PLC0415

    from rich.console import Console  # noqa: PLC0415

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    from lab.bad_input import BadInput  # noqa: PLC0415 (numpy and numba are slow to import)
    from lab.experiment import Experiment  # noqa: PLC0415
    from lab.fleet import Starts  # noqa: PLC0415
    from lab.runner import check  # noqa: PLC0415
    from lab.runner import run as run_all  # noqa: PLC0415
    from lab.server import Server  # noqa: PLC0415
    from lab.simulator import Bounds  # noqa: PLC0415

    try:
        experiment = Experiment(
            traces=tuple(str(path) for path in trace),
            policies=tuple(name.strip() for name in policies.split(",") if name.strip()),
            start_delays_s=_seconds(start_delay),
            seeds=seeds,
            sweep=sweep,
            last=last,
            until=until,
            days=days,
            server=Server(capacity_rps=capacity, deadline_s=deadline_ms / 1e3, slo_s=slo_ms / 1e3),
            starts=Starts(jitter=jitter, failure=failure, drain_s=drain),
            scale=scale,
            least=least,
            most=most,
            step_s=forecast_step,
            forecast_every_s=forecast_every,
        )
        Bounds(least, least + 1 if most is None else most)
        _writable(out)
        notes = check(experiment)
    except (BadInput, ValueError) as e:
        console.print(f"foremesh: {e}", markup=False)
        raise typer.Exit(USAGE) from None
    for note in notes:
        console.print(f"  {note}", markup=False)
    # Whoever ends a long run keeps the rows that are done, however it is ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    began = time.monotonic()
    with progress_bar(console, shares=True) as progress:
        task = progress.add_task("runs", total=1.0)

        def show(share: float, done: int, runs: int) -> None:
            progress.update(task, completed=share, description=f"{done} of {runs} runs")

        try:
            rows = run_all(experiment, out, jobs=jobs or os.cpu_count() or 1, progress=show)
        except BrokenProcessPool:
            raise Failed(
                "a process of the run died (out of memory, or a policy that ends its process); try fewer --jobs"
            ) from None
    took_s = time.monotonic() - began
    broken = [row for row in rows if "error" in row]
    for row in broken[:3]:
        console.print(f"{row['policy']} on {row['trace']} failed:\n{row['error']}", markup=False)
    if json:
        print(jsonlib.dumps(rows))
    else:
        from lab.results_table import results_tables  # noqa: PLC0415

        for table in results_tables(rows):
            Console(highlight=False).print(table, "")
        where = out / "results.json"
        said = f"{len(rows)} rows in {took_s:.0f} s: {where}; see them: foremesh lab report {out}"
        console.print(said, markup=False)
    if len(broken) == len(rows):
        raise typer.Exit(FAILED)


def _seconds(text: str) -> tuple[float, ...]:
    found: list[float] = []
    for part in text.split(","):
        try:
            value = float(part)
        except ValueError:
            raise ValueError(
                f"--start-delay: '{part}' is not a number; write seconds such as 15,30,60"
            ) from None
        if not 0 < value < 86_400:
            raise ValueError(
                f"--start-delay: {part} s; write seconds above 0: with no delay at all every policy is a perfect one"
            )
        if value in found:
            raise ValueError(f"--start-delay: {part} is given twice")
        found.append(value)
    return tuple(found)


def _writable(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out: {out} is a file; name a folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise ValueError(
            f"--out: {out} can't be made ({e.strerror}); name a folder that can be written"
        ) from None
