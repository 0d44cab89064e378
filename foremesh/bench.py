"""`foremesh bench ...`: figures that the README prints, measured on this machine."""

from __future__ import annotations

import contextlib
import json as jsonlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from deploy.local import tools
from deploy.local.settings import REPO, MeshSettings
from foremesh import mesh as lifecycle
from foremesh.bench_gateway import gateway
from foremesh.bench_inference import inference
from foremesh.bench_stress import memory, overload
from foremesh.mesh import Failed, MeshClient
from foremesh.options import PortBase, exits, mesh_settings

if TYPE_CHECKING:
    from lab.closed_loop import LoadRunner, Target

app = typer.Typer(
    help="Measure on this machine; everything is compared within one run.", no_args_is_help=True
)
app.command()(gateway)
app.command()(inference)
app.command()(overload)
app.command()(memory)
# Meshes of one bench stand this far apart.
STRIDE = 200


@app.callback()
def bench() -> None:
    """Measure on this machine; everything is compared within one run."""


@app.command()
@exits
def mesh(
    json: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds.", min=1, max=100)] = 15,
    seconds: Annotated[float, typer.Option(help="Length of one measurement.", min=0.5, max=60)] = 1.0,
    daprd: Annotated[
        str, typer.Option(help="Path of an installed daprd: its hop is measured beside ours.")
    ] = "",
    port_base: PortBase = 9700,
) -> None:
    """What a Dapr hop costs, and what the whole path takes: with mTLS, without, and without sidecars.

    Three meshes of the same services run side by side and are measured in turn (A B C, C B A, ...), so that a drift of
    the machine meets all of them. Replicas are not throttled here: what is measured is the path.

    Exit codes: 0 measured, 1 a mesh did not start or did not answer.
    """
    from lab.bench_mesh import bench_hop, bench_paths  # noqa: PLC0415 (numpy is slow to import)
    from lab.closed_loop import LoadFailed, LoadGenerator, intents_target  # noqa: PLC0415
    from lab.utterances import read_utterances  # noqa: PLC0415

    console = Console(highlight=False, stderr=True)
    run = LoadGenerator(tools.built(tools.LOADGEN))
    said = read_utterances(REPO / "models/data/utterances.tsv")
    with contextlib.ExitStack() as stack:
        state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="foremesh-bench-")))
        meshes: dict[str, MeshSettings] = {}
        wirings = ("mesh", "plaintext", "direct", *(["installed"] if daprd else []))
        for number, wiring in enumerate(wirings):
            console.print(f"starting: {wiring}")
            settings = mesh_settings(
                port_base + STRIDE * number,
                wiring="mesh" if wiring == "installed" else wiring,
                daprd=daprd if wiring == "installed" else None,
                policy="static:1",
                cpu_limit="threads",
                state_dir=state,
            )
            stack.callback(lifecycle.stop, lifecycle.start(settings, leash=True))
            meshes[wiring] = settings
        mtls = MeshClient(meshes["mesh"])
        try:
            installed = hop_targets(MeshClient(meshes["installed"]))[1] if daprd else None
            hops = bench_hop(
                *hop_targets(mtls),
                run,
                installed=installed,
                rounds=rounds,
                seconds=seconds,
                say=console.print,
            )
            through, plain, bare = (
                intents_target(meshes[w].gateway_url, said) for w in ("mesh", "plaintext", "direct")
            )
            paths = bench_paths(through, plain, bare, run, rounds=rounds, seconds=seconds, say=console.print)
            cpu = {
                wiring: cpu_us_per_request(MeshClient(meshes[wiring]), target, run)
                for wiring, target in (("mesh", through), ("plaintext", plain), ("direct", bare))
            }
        except LoadFailed as e:
            raise Failed(str(e)) from None
        seen = {w: MeshClient(meshes[w]).hops() for w in ("mesh", "plaintext")}
    figures: dict[str, Any] = {
        **hops,
        **paths,
        "errors": hops["errors"] + paths["errors"],
        "hops_seen": seen,
        "cpu_us_per_request_64": cpu,
    }
    if json:
        json.write_text(jsonlib.dumps(figures, indent=2) + "\n")
    show(figures)


def hop_targets(client: MeshClient) -> tuple[Any, Any]:
    """Tokenization called directly, and by routing through both sidecars; the tokens are read as their owner may."""
    from lab.closed_loop import Target  # noqa: PLC0415

    processes = {p["name"]: p for p in client.status()["processes"]}
    tokenization, routing = (
        environment(processes["tokenization"]["pid"]),
        environment(processes["routing"]["pid"]),
    )
    body = [jsonlib.dumps({"model": "intent", "texts": ["turn on the kitchen light"]})]
    direct = Target(
        f"http://127.0.0.1:{processes['tokenization']['port']}/v1/tokenize",
        body,
        {"dapr-api-token": tokenization["APP_API_TOKEN"]},
        '"ids"',
    )
    hop = Target(
        f"http://127.0.0.1:{routing['DAPR_HTTP_PORT']}/v1.0/invoke/tokenization/method/v1/tokenize",
        body,
        {"dapr-api-token": routing["DAPR_API_TOKEN"]},
        '"ids"',
    )
    return direct, hop


def cpu_us_per_request(client: MeshClient, target: Target, run: LoadRunner) -> dict[str, float]:
    """Microseconds of CPU that each process of a mesh spends on one request at 64 connections; those of the load
    generator are not in it."""

    def used() -> dict[str, float]:
        return {p["name"]: p["cpu_s"] for p in client.status()["processes"]}

    before = used()
    answered = run(target, connections=64, seconds=4.0, warmup_s=0.0).ok
    spent = {name: (cpu_s - before.get(name, 0.0)) / answered * 1e6 for name, cpu_s in used().items()}
    return {name: round(us, 1) for name, us in spent.items() if us >= 1}


def environment(pid: int) -> dict[str, str]:
    """The environment of a process of ours."""
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def show(figures: dict[str, Any]) -> None:
    """Print the figures as a table."""
    table = Table(box=None, header_style="bold")
    table.add_column("connections")
    for name in ("mTLS", "mTLS off", "no sidecars"):
        table.add_column(f"{name}: RPS", justify="right")
        table.add_column("p50 / p99 ms", justify="right")
    for n in ("1", "8", "64"):
        cells = []
        for which in ("path", "mtls_off_path", "direct_path"):
            point = figures[which][n]
            cells += [f"{point['rps']:.0f}", f"{point['p50_ms']:.2f} / {point['p99_ms']:.2f}"]
        table.add_row(n, *cells)
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"one hop adds {figures['hop_added_p50_ms']:.2f} ms at p50, {figures['hop_added_p99_ms']:.2f} ms at p99; "
        f"{figures['hop_rps_32']:.0f} RPS at 32 connections (direct {figures['direct_rps_32']:.0f})"
    )
    if figures["installed_hop_added_p50_ms"] is not None:
        console.print(
            f"the installed daprd's hop adds {figures['installed_hop_added_p50_ms']:.2f} ms at p50; "
            f"{figures['installed_hop_rps_32']:.0f} RPS at 32 connections"
        )
    console.print(
        f"at 64 connections the mesh does {figures['mesh_to_direct_64']:.2f} of what the bare services do"
    )
    for wiring, of_processes in figures["cpu_us_per_request_64"].items():
        busiest = sorted(of_processes.items(), key=lambda pair: -pair[1])
        console.print(
            f"CPU of a request at 64 connections, {wiring}: {sum(of_processes.values()):.0f} us: "
            + ", ".join(f"{name} {us:.0f}" for name, us in busiest)
        )
