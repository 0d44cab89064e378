"""The simulator against a live mesh: the same trace, arrivals and policy in both, side by side.

What a live run gives is the JSON of `foremesh demo --json`; its arrivals are drawn again bit for bit from the trace.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from lab.bad_input import BadInput, read_text
from lab.elasticity import have
from lab.fleet import Starts
from lab.foresight import Told, issue
from lab.load import from_schedule
from lab.measures import measure, needed
from lab.queueing import SHED
from lab.schedule import arrivals
from lab.server import Server
from lab.simulator import Bounds, Run, simulate
from lab.trace import Trace
from services.autoscaler.policies import PolicyOptions, policy_from
from services.predictor.served import served

COMPARED = (
    "waste", "tau_u", "tau_o", "theta_u", "scale_out_delay_late_s", "scale_out_delay_all_s", "p50_ms", "p95_ms",
    "p99_ms", "shed_share", "mean_ready",
)  # fmt: skip

DIFFERENCES = (
    "a request of the mesh makes three hops, some milliseconds that the simulator leaves out",
    "the simulator's replicas share one queue; live, each has its own and one may be busier than another",
    "the capacity was measured at saturation, where batches are full; the simulator gains nothing by batching here",
    "live, replicas and load generator share the machine: a start takes CPU from those that serve",
    "the mesh samples replicas each quarter of a second, the simulator each second",
)

_NEEDED = (
    "policy", "duration_s", "seed", "peak_rps", "capacity_rps", "step_s", "min_replicas", "max_replicas", "replicas",
    "sent", "shed",
)  # fmt: skip
_TICK_S = 2
_UNKNOWN_START_S = 5.0


def read_live(path: Path) -> dict[str, Any]:
    """The figures of a live run; raises BadInput for a file that is none, naming what it lacks."""
    remedy = "write it with `foremesh demo --json FILE`"
    try:
        live = json.loads(read_text(path, "the JSON of `foremesh demo --json`"))
    except BadInput:
        raise
    except ValueError as error:
        raise BadInput(path, f"not JSON ({error})", remedy) from None
    missing = [name for name in _NEEDED if not isinstance(live, dict) or live.get(name) is None]
    if missing:
        raise BadInput(path, f"it lacks {', '.join(missing)}", remedy)
    return dict(live)


def validate(live: dict[str, Any], trace: Trace, *, seeds: int) -> dict[str, Any]:
    """Simulate a live run `seeds` times (starts and the places of arrivals within a second differ).

    Returns {policy, trace, seeds, figures: {name: {live, simulated: [one a seed]}}, timeline: {need, live, simulated}
    by second, differences}; figures by COMPARED, None where there was none. Raises ValueError for a policy, trace or
    figure that can't be simulated.
    """
    schedule = arrivals(trace, live["duration_s"], live["peak_rps"], live["seed"])
    # What the live score counts as needed is at the capacity as it was measured: no share of it is planned away.
    server = Server(
        capacity_rps=live["capacity_rps"], overhead=0.0, max_batch=1, planned_utilisation=1.0,
    )  # fmt: skip
    bounds = Bounds(live["min_replicas"], live["max_replicas"])
    starts = Starts(live.get("start_delay_s") or _UNKNOWN_START_S, failure=0.0)
    options = PolicyOptions(tick_s=_TICK_S)
    runs: list[tuple[Run, dict[str, Any]]] = []
    for seed in range(seeds):
        over = from_schedule(schedule, trace, seed)
        issued = issue(served(), over, step_s=round(live["step_s"]), every_s=_TICK_S)
        run = simulate(
            policy_from(live["policy"], options),
            over,
            server,
            starts,
            bounds,
            Told(issued, over.began_at),
            tick_s=_TICK_S,
            begin_with=round(live["replicas"][0][2]),
            warm_up_s=0,  # a policy begins with the mesh
        )
        runs.append((run, _figures(run, measure(run, over, server, bounds))))
    seconds = np.arange(len(runs[0][0].ready), dtype=np.float64)
    ready = have([(t, round(wanted), round(count)) for t, wanted, count in live["replicas"]], seconds)
    known = live | {
        "shed_share": live["shed"] / live["sent"] if live["sent"] else 0.0,
        "mean_ready": float(ready.mean()),
    }
    return {
        "policy": live["policy"],
        "trace": trace.name,
        "seeds": seeds,
        "figures": {
            name: {"live": _rounded(known.get(name)), "simulated": [_rounded(one[name]) for _, one in runs]}
            for name in COMPARED
        },
        "timeline": {
            "need": needed(from_schedule(schedule, trace, 0), server, bounds).tolist(),
            "live": ready.tolist(),
            "simulated": runs[0][0].ready.tolist(),
        },
        "differences": list(DIFFERENCES),
    }


def _figures(run: Run, measured: dict[str, Any]) -> dict[str, Any]:
    answered, shed = float(run.series[:, 0].sum()), float(run.series[:, SHED].sum())
    sent = answered + shed
    return measured | {"shed_share": shed / sent if sent else 0.0, "mean_ready": float(run.ready.mean())}


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(float(value), 4)
