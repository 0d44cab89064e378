"""`foremesh demo`: replay a traffic trace through a real mesh and say what happened."""

from __future__ import annotations

import csv
import json as jsonlib
import os
import platform
import signal
import threading
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from deploy.local import tools
from deploy.local.settings import REPO, MeshSettings
from foremesh import mesh as lifecycle
from foremesh.mesh import Failed, MeshClient
from foremesh.options import USAGE, PortBase, exits, mesh_settings
from foremesh.scale import set_by_hand

TRACE = REPO / "lab/data/demo_trace.csv"
UTTERANCES = REPO / "models/data/utterances.tsv"
CALIBRATION_S = 4.0
SETTLE_WITHIN_S = 60.0
# Of what all replicas together can do at the peak: some room is left, or every policy would look the same there.
PEAK_SHARE = 0.85


class Timeline:
    """(monotonic s, wanted, ready) of inference, read from the supervisor four times a second while a replay runs."""

    def __init__(self, client: MeshClient) -> None:
        self.points: list[tuple[float, int, int]] = []
        self._client = client
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Timeline:
        self._note()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def since(self, began_s: float) -> list[tuple[float, int, int]]:
        """The points with their times counted from `began_s` on the monotonic clock."""
        return [(t - began_s, wanted, ready) for t, wanted, ready in self.points]

    def _note(self) -> None:
        app = self._client.app("inference")
        self.points.append((time.monotonic(), app["wanted"], app["ready"]))

    def _run(self) -> None:
        while not self._stop.wait(0.25):
            self._note()


@exits
def demo(
    trace: Annotated[Path, typer.Option(help="CSV with columns timestamp,requests; any bin width.")] = TRACE,
    utterances: Annotated[Path, typer.Option(help="TSV with columns text, intent.")] = UTTERANCES,
    duration: Annotated[float, typer.Option(help="Seconds of replay.", min=10, max=3600)] = 120.0,
    policy: Annotated[
        str, typer.Option(help="predictive, hpa, kpa, keda, persistence, trend or static:N.")
    ] = "predictive",
    peak: Annotated[
        float | None, typer.Option(help="Peak requests/s; default: what this machine can take.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of arrivals and utterances.")] = 1,
    leave: Annotated[bool, typer.Option("--exit", help="Stop the mesh after the table.")] = False,
    json: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
    port_base: PortBase = 8700,
) -> None:
    """Start a mesh, replay a traffic trace through its gateway, print what happened, leave the page up until Ctrl-C.

    The trace is compressed in time and scaled to this machine; requests leave at their own times, whether or not
    earlier ones were answered (open loop). Without files it uses a small synthetic trace and utterances of our own.

    Exit codes: 0 done, 1 the mesh did not start or did not answer, 2 a file or option was wrong.
    """
    from lab.bad_input import BadInput  # noqa: PLC0415 (numpy is slow to import and no other verb needs it)
    from lab.schedule import choose_window  # noqa: PLC0415
    from lab.trace import read_trace  # noqa: PLC0415
    from lab.utterances import read_utterances  # noqa: PLC0415

    console = Console(highlight=False)
    try:
        traffic, said = read_trace(trace), read_utterances(utterances)
    except BadInput as e:
        Console(stderr=True, highlight=False).print(f"foremesh: {e}")
        raise typer.Exit(USAGE) from None
    settings = mesh_settings(port_base, policy=policy, step_s=round(choose_window(traffic, duration).step_s))
    if MeshClient(settings).is_up():
        raise Failed(f"a mesh is up already on port base {port_base}; `foremesh down` ends it")
    (settings.run_dir / "history.csv").unlink(missing_ok=True)
    began = time.monotonic()
    with console.status("starting the mesh"):
        child = lifecycle.start(settings, leash=True)
    try:
        signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        client = MeshClient(settings)
        console.print(
            f"up in {time.monotonic() - began:.1f} s   page [bold]{settings.dashboard_url}[/]   "
            f"gateway {settings.gateway_url}"
        )
        figures = run(console, client, settings, traffic, said, duration, peak, seed)
        figures |= {
            "policy": policy,
            "trace": trace.name,
            "utterances": utterances.name,
            "duration_s": duration,
            "seed": seed,
        }
        if json:
            json.write_text(jsonlib.dumps(figures, indent=2) + "\n")
        from lab.table import print_demo  # noqa: PLC0415

        print_demo(figures, console)
        if not leave:
            console.print(f"the page stays up at {settings.dashboard_url}; Ctrl-C ends it")
            child.wait()
    except KeyboardInterrupt:
        console.print("stopping")
    finally:
        lifecycle.stop(child)


def run(
    console: Console, client: MeshClient, settings: MeshSettings, traffic: Any, said: Any,
    duration: float, peak: float | None, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """Calibrate, replay, score. Returns the figures that the README documents."""
    from lab.calibrate import calibrate  # noqa: PLC0415
    from lab.closed_loop import LoadFailed, LoadGenerator  # noqa: PLC0415
    from lab.replay import replay  # noqa: PLC0415
    from lab.schedule import arrivals  # noqa: PLC0415
    from lab.score import score  # noqa: PLC0415

    generator = LoadGenerator(tools.built(tools.LOADGEN))

    def measured(replicas: int) -> float:
        set_by_hand(client, "inference", replicas, SETTLE_WITHIN_S)
        return calibrate(settings.gateway_url, CALIBRATION_S, utterances=said, run=generator)

    try:
        # All of them first: the path in front of them may be the narrower part on a small machine.
        with console.status(f"measuring what {settings.max_replicas} replicas and one replica can do"):
            together = measured(settings.max_replicas)
            capacity = measured(1)
    except LoadFailed as e:
        raise Failed(str(e)) from None
    peak = peak or PEAK_SHARE * min(together, capacity * settings.max_replicas)
    schedule = arrivals(traffic, duration, peak, seed)
    for note in schedule.notes:
        console.print(f"  {note}")
    console.print(
        f"  one replica serves {capacity:.0f} requests/s, {settings.max_replicas} together {together:.0f}; "
        f"the peak is {peak:.0f} requests/s"
    )
    write_history(settings.run_dir / "history.csv", schedule.history)
    client.configure(policy=settings.policy, capacity_rps=round(capacity, 1), step_s=settings.step_s)
    before = client.hops()

    def progress(p: Any) -> None:
        app = timeline.points[-1]
        p95 = f"{p.p95_ms:.0f} ms" if p.p95_ms is not None else "-"
        status.update(
            f"{p.t_s:.0f}/{duration:.0f} s  sent {p.sent}  answered {p.answered}  shed {p.shed}  failed {p.failed}  "
            f"p95 {p95}  replicas {app[2]} ready, {app[1]} wanted"
        )

    console.print(
        f"  replaying {len(schedule.offsets_s)} requests in {duration:.0f} s, policy {settings.policy}"
    )
    with Timeline(client) as timeline, console.status("replaying") as status:
        result = replay(settings.gateway_url, schedule.offsets_s, said, seed=seed, on_progress=progress)
    after = client.hops()
    app = client.app("inference")
    scored = score(
        result, timeline.since(result.began_s), schedule.rates_rps,
        capacity_rps=capacity, min_replicas=settings.min_replicas, max_replicas=settings.max_replicas,
    )  # fmt: skip
    if not scored["answered"]:
        raise Failed("the mesh answered nothing; see `foremesh logs gateway` and `foremesh logs routing`")
    quota = (
        f"cgroup, {app['quota_cores']:g} cores"
        if app["limit"] == "cgroup"
        else "one thread, bounded concurrency"
    )
    return dict(scored) | {
        "mtls_hops": after["mtls"] - before["mtls"],
        "plaintext_hops": after["plaintext"] - before["plaintext"],
        "limit": quota,
        "start_delay_s": app["start_delay_s"],
        "peak_rps": peak,
        "min_replicas": settings.min_replicas,
        "max_replicas": settings.max_replicas,
        "step_s": schedule.window.step_s,
        "compression": schedule.window.compression,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
    }


def write_history(file: Path, counts: Any) -> None:
    """What a forecaster would have seen before the replay: the trace before its window, one row a second."""
    with file.open("w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(["timestamp", "requests"])
        writer.writerows((n, int(c)) for n, c in enumerate(counts))
