"""Runs an experiment on the cores there are, and keeps what came out in a folder.

DIR/experiment.json: what was asked for. DIR/results.json: the rows; DIR/hours.json: for each of them its hours, as
lab.measures has them, for intervals. DIR/timelines.json: the hardest hours, for
pictures. DIR/forecasts: what the live service's forecaster said of each load, so that no run has to ask it again.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from lab import measures, timeline
from lab.bad_input import BadInput
from lab.contenders import contender
from lab.experiment import (
    Experiment,
    Setting,
    issue_forecasts,
    judged,
    run_row,
    scale_of,
    scene,
    seconds_of,
)
from lab.foresight import Issued
from lab.plan import Plan, told
from lab.summary import HOURS, RESULTS
from lab.trace import read_trace

EXPERIMENT, TIMELINES, FORECASTS = "experiment.json", "timelines.json", "forecasts"

MOST_REQUESTS = 5e9
"""Of one run: some minutes of simulation."""

Progress = Callable[[float, int, int], None]
"""Called now and then with the share of the work that is done (0..1), with the runs that are done and how many there
are."""

_TOLD_EVERY_S = 0.25

_DONE: list[Any] = []
"""In a process of the pool: seconds that are done of each piece of work, shared with the process that started it."""

Row = dict[str, Any]


def check(experiment: Experiment) -> tuple[str, ...]:
    """What is worth saying of the traces, in sentences; raises BadInput or ValueError for what can't be run."""
    if not experiment.policies:
        raise ValueError("--policies: no policy is named; name one such as hpa")
    stems = [Path(trace).stem for trace in experiment.traces]
    for name, many in (("trace", stems), ("policy", list(experiment.policies))):
        twice = next((one for one in many if many.count(one) > 1), None)
        if twice is not None:
            raise ValueError(f"{name} '{twice}' is given twice; rows are told apart by name")
    for policy in experiment.policies:
        contender(policy)
    notes: list[str] = []
    for path in experiment.traces:
        trace = read_trace(path)
        notes += [f"{path}: {note}" for note in trace.notes]
        if abs(trace.bin_s - round(trace.bin_s)) > 1e-6:
            raise BadInput(Path(path), f"bins of {trace.bin_s:g} s", "write one row per bin of whole seconds")
        try:
            first, stop = judged(experiment, trace)
            scale = scale_of(experiment, trace)
        except ValueError as error:
            raise BadInput(
                Path(path), str(error), "judge a larger part (--last 1) or another trace"
            ) from None
        if "hpa-tuned" in experiment.policies and not first:
            raise BadInput(
                Path(path),
                "hpa-tuned has nothing before the judged part",
                "judge less than all (--last 0.25) or leave hpa-tuned out of --policies",
            )
        requests = float(np.sum(trace.requests[first:stop])) * scale
        if requests > MOST_REQUESTS:
            remedy = "lower --scale or --capacity, or judge fewer --days"
            raise BadInput(Path(path), f"{requests:.3g} requests would be simulated in each run", remedy)
        days = (stop - first) * trace.bin_s / 86_400
        notes.append(
            f"{trace.name}: bins {first}..{stop - 1} of {len(trace.requests)}, {trace.bin_s:g} s each, are judged "
            f"({days:.3g} days), requests scaled by {scale:.4g}"
        )
    return tuple(notes)


def run(experiment: Experiment, out: Path, *, jobs: int, progress: Progress) -> list[Row]:
    """Run everything and write it to `out`, which is made; jobs: processes at a time. Returns the rows."""
    (out / FORECASTS).mkdir(parents=True, exist_ok=True)
    # Resolved, so that `explain` finds the traces from anywhere.
    traces = [str(Path(path).resolve()) for path in experiment.traces]
    _write(out / EXPERIMENT, experiment.as_dict() | {"traces": traces})
    settings = list(experiment.settings())
    rows: list[Row] = [{}] * len(settings)
    hours: list[list[list[int]]] = [[]] * len(settings)
    shown: list[dict[str, Any] | None] = [None] * len(settings)
    plan = Plan(settings, lambda trace: seconds_of(experiment, trace))
    # A process has one core: numpy's threads would take that of another, and wait for it.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Not forked: a process that has ONNX Runtime's threads can't be copied safely.
    context = multiprocessing.get_context("spawn")
    done = context.RawArray("d", len(plan.seconds))
    running: dict[Future[Any], int] = {}
    with ProcessPoolExecutor(jobs, context, _share, (done,)) as pool:

        def begin() -> None:
            while len(running) < jobs and (piece := plan.next()) is not None:
                load = plan.load(piece)
                future: Future[Any]
                if load is None:
                    future = pool.submit(_run, experiment, settings[piece], out, piece)
                else:
                    future = pool.submit(_forecast, experiment, *load, out, piece)
                running[future] = piece

        try:
            begin()
            while running:
                for future in wait(running, _TOLD_EVERY_S, FIRST_COMPLETED).done:
                    piece, result = running.pop(future), future.result()
                    if plan.load(piece) is None:
                        rows[piece], shown[piece] = result
                        hours[piece] = rows[piece].pop(measures.HOURS, [])
                    plan.finished(piece)
                    done[piece] = plan.seconds[piece]
                begin()
                progress(plan.share(done), sum(map(bool, rows)), len(rows))
        except BaseException:
            # Whoever ends a long run keeps the rows that are done, and does not wait for those that are not.
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise
        finally:
            _write(out / TIMELINES, _timelines(settings, shown))
            _write(out / RESULTS, [row for row in rows if row])
            _write(out / HOURS, [each for each, row in zip(hours, rows, strict=True) if row])
    return rows


def _share(done: Any) -> None:
    """In a process of the pool: keep where it says how far it is."""
    _DONE.append(done)


def _reached(piece: int, seconds: int) -> None:
    _DONE[0][piece] = seconds


def _run(
    experiment: Experiment, setting: Setting, out: Path, piece: int
) -> tuple[Row, dict[str, Any] | None]:
    forecasts = read_forecasts(str(out), setting.trace, setting.seed) if told(setting) else None
    row, run = run_row(experiment, setting, forecasts, partial(_reached, piece))
    if run is None or not setting.default or setting.seed:
        return row, None
    at = scene(experiment, setting.trace, setting.seed)
    need = measures.needed(at.load, experiment.server, at.bounds)
    shown = timeline.of_run(run, need)
    return row, {"load": timeline.of_load(at.load, need, forecasts, setting.start_delay_s), "run": shown}


def _timelines(settings: list[Setting], shown: list[dict[str, Any] | None]) -> dict[str, Any]:
    timelines: dict[str, Any] = {}
    for setting, of_run in zip(settings, shown, strict=True):
        if of_run is None:
            continue
        trace = timelines.setdefault(Path(setting.trace).stem, {})
        delay = trace.setdefault(f"{setting.start_delay_s:g}", {"load": {}, "policies": {}})
        delay["load"] |= of_run["load"]
        delay["policies"][setting.policy] = of_run["run"]
    return timelines


def _forecast(experiment: Experiment, trace: str, seed: int, out: Path, piece: int) -> None:
    issued = issue_forecasts(experiment, trace, seed, partial(_reached, piece))
    np.savez(
        _forecast_file(out, trace, seed),
        every_s=issued.every_s,
        first_s=issued.first_s,
        step_s=issued.step_s,
        horizons_s=issued.horizons_s,
        rates_rps=issued.rates_rps,
    )


@lru_cache(maxsize=1)
def read_forecasts(out: str, trace: str, seed: int) -> Issued:
    """The forecasts of a load that a run has written; raises BadInput when they are not there."""
    path = _forecast_file(Path(out), trace, seed)
    try:
        with np.load(path) as saved:
            return Issued(
                int(saved["every_s"]),
                float(saved["step_s"]),
                tuple(saved["horizons_s"].tolist()),
                saved["rates_rps"],
                int(saved["first_s"]),
            )
    except (OSError, KeyError, ValueError) as error:
        raise BadInput(
            path, f"no forecasts ({error})", "run the experiment again: foremesh lab run"
        ) from None


def _forecast_file(out: Path, trace: str, seed: int) -> Path:
    return out / FORECASTS / f"{Path(trace).stem}-{seed}.npz"


def _write(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
