"""Runs an experiment on the cores there are, and keeps what came out in a folder.

DIR/experiment.json: what was asked for. DIR/results.json: the rows; DIR/hours.json: for each of them its hours, as
lab.measures has them, for intervals. DIR/timelines.json: the hardest hours, for
pictures. DIR/forecasts: what the live service's forecaster said of each load, so that no run has to ask it again.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from lab import measures, timeline
from lab.bad_input import BadInput
from lab.contenders import contender
from lab.experiment import Experiment, Setting, issue_forecasts, judged, run_row, scale_of, scene
from lab.foresight import Issued
from lab.summary import HOURS, RESULTS
from lab.trace import read_trace

EXPERIMENT, TIMELINES, FORECASTS = "experiment.json", "timelines.json", "forecasts"

MOST_REQUESTS = 5e9
"""Of one run: some minutes of simulation."""

Progress = Callable[[int, int], None]
"""Called with the pieces of work that are done, and with how many there are."""

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
    timelines: dict[str, Any] = {}
    waiting: dict[tuple[str, int], list[int]] = {(one.trace, one.seed): [] for one in settings if _told(one)}
    total, done = len(waiting) + len(settings), 0
    progress(done, total)
    # Not forked: a process that has ONNX Runtime's threads can't be copied safely.
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        running: dict[Future[Any], tuple[str, int] | int] = {}

        def start(index: int) -> None:
            running[pool.submit(_run, experiment, settings[index], out)] = index

        # Forecasts first: who doesn't need them keeps the other cores busy meanwhile.
        for key in waiting:
            running[pool.submit(_forecast, experiment, *key, out)] = key
        for index, setting in enumerate(settings):
            if _told(setting):
                waiting[setting.trace, setting.seed].append(index)
            else:
                start(index)
        try:
            while running:
                for finished in wait(running, return_when=FIRST_COMPLETED).done:
                    which = running.pop(finished)
                    result = finished.result()
                    if isinstance(which, int):
                        rows[which], shown = result
                        hours[which] = rows[which].pop(measures.HOURS, [])
                        _keep(timelines, settings[which], shown)
                    else:
                        for index in waiting.pop(which):
                            start(index)
                    done += 1
                    progress(done, total)
        except BaseException:
            # Whoever ends a long run keeps the rows that are done, and does not wait for those that are not.
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise
        finally:
            _write(out / TIMELINES, timelines)
            _write(out / RESULTS, [row for row in rows if row])
            _write(out / HOURS, [each for each, row in zip(hours, rows, strict=True) if row])
    return rows


def _told(setting: Setting) -> bool:
    return contender(setting.policy).told == "forecast"


def _run(experiment: Experiment, setting: Setting, out: Path) -> tuple[Row, dict[str, Any] | None]:
    forecasts = read_forecasts(str(out), setting.trace, setting.seed) if _told(setting) else None
    row, run = run_row(experiment, setting, forecasts)
    if run is None or not setting.default or setting.seed:
        return row, None
    at = scene(experiment, setting.trace, setting.seed)
    need = measures.needed(at.load, experiment.server, at.bounds)
    shown = timeline.of_run(run, need)
    return row, {"load": timeline.of_load(at.load, need, forecasts, setting.start_delay_s), "run": shown}


def _keep(timelines: dict[str, Any], setting: Setting, shown: dict[str, Any] | None) -> None:
    if shown is None:
        return
    trace = timelines.setdefault(Path(setting.trace).stem, {})
    delay = trace.setdefault(f"{setting.start_delay_s:g}", {"load": {}, "policies": {}})
    delay["load"] |= shown["load"]
    delay["policies"][setting.policy] = shown["run"]


def _forecast(experiment: Experiment, trace: str, seed: int, out: Path) -> None:
    issued = issue_forecasts(experiment, trace, seed)
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
