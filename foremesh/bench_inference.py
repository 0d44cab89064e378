"""`foremesh bench inference`: inference alone against bare ONNX Runtime and against other model servers."""

from __future__ import annotations

import contextlib
import json as jsonlib
import os
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from deploy.local import environments, tools
from deploy.local.guardian import Guarded
from deploy.local.ports import is_free
from deploy.local.process import LEASH, StartFailed
from deploy.local.settings import REPO
from foremesh.mesh import Failed
from foremesh.options import exits

if TYPE_CHECKING:
    from lab.bench_inference import Contest, Server
    from lab.closed_loop import Target
    from lab.rivals.specs import Rival
    from lab.rounds import Say
    from lab.utterances import Utterance

MODEL = "intent"
TIERS = ("tiny", "mini", "base")
# Names of lab/rivals/specs.py, which is not imported for `--help`.
NAMES = ("bentoml", "mlserver", "litserve", "ray")
LOCKS = REPO / "requirements/rivals"
OURS_WITHIN_S = 30.0
RIVAL_WITHIN_S = 60.0
# A server takes the port that it is given, and some the three after it.
PORTS = 4


@exits
def inference(
    json: Annotated[Path | None, typer.Option(help="Write the figures as JSON.", metavar="OUT")] = None,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds.", min=1, max=100)] = 9,
    seconds: Annotated[float, typer.Option(help="Length of one measurement.", min=0.5, max=60)] = 1.0,
    tier: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Tier of the model: {', '.join(TIERS)}; may be repeated.", show_default="tiny and base"
        ),
    ] = None,
    rival: Annotated[
        list[str] | None,
        typer.Option(help=f"A rival: {', '.join(NAMES)}; may be repeated.", show_default="all"),
    ] = None,
    no_rivals: Annotated[bool, typer.Option("--no-rivals", help="Only ours and bare ONNX Runtime.")] = False,
) -> None:
    """What serving a model costs: `foremesh models serve` against bare ONNX Runtime and against BentoML, MLServer,
    LitServe and Ray Serve, on the same model with one thread, at 1, 8 and 64 connections.

    Ours and one other are measured in turn (A B, B A, ...), so that a drift of the machine meets both; ratios are of a
    round. Bare runs as many sentences together as there are connections and the model's card allows. Each rival runs
    with the best of its documented settings, in an environment of its own that is installed from PyPI at its first
    use (all four: some minutes and 1.6 GB below ~/.cache/foremesh). One that cannot be installed or started is
    named and left out. With all rivals and the default rounds it takes about a quarter of an hour; the machine should
    be doing nothing else.

    Example: foremesh bench inference --json inference.json

    Example: foremesh bench inference --tier tiny --rival litserve --rounds 3

    Exit codes: 0 measured, 1 something of ours did not start or did not answer, 2 wrong usage. A figure below its bar
    is marked in the table and changes no exit code.
    """
    tiers = chosen("--tier", tier or ["tiny", "base"], TIERS)
    if rival and no_rivals:
        raise typer.BadParameter("--rival and --no-rivals exclude each other")
    check_out(json)
    names = [] if no_rivals else chosen("--rival", rival or list(NAMES), NAMES)

    from lab.bench_inference import NotStarted, bench_tier, report  # noqa: PLC0415 (numpy, onnxruntime)
    from lab.closed_loop import LoadFailed, LoadGenerator  # noqa: PLC0415
    from lab.utterances import read_utterances  # noqa: PLC0415

    say = console()
    run = LoadGenerator(tools.built(tools.LOADGEN))
    figures: dict[str, Any] = {"machine": machine(), "rounds": rounds, "seconds": seconds}
    of_tiers = {}
    said = read_utterances(REPO / "models/data/utterances.tsv")
    with tempfile.TemporaryDirectory(prefix="foremesh-bench-") as work:
        for name in tiers:
            say(f"tier {name}")
            try:
                with contest(name, names, said, Path(work), say) as compared:
                    of_tiers[name] = bench_tier(compared, run, rounds=rounds, seconds=seconds, say=say)
            except (NotStarted, LoadFailed) as e:
                raise Failed(str(e)) from None
            names = [left for left in names if left not in of_tiers[name]["failed"]]
    figures |= report(of_tiers)
    if json:
        json.write_text(jsonlib.dumps(figures, indent=2) + "\n")
    show(figures)


def check_out(json: Path | None) -> None:
    """Figures that could not be written are bad usage, told before anything is measured."""
    if json and not json.absolute().parent.is_dir():
        raise typer.BadParameter(f"--json {json}: there is no folder {json.absolute().parent}")


def console() -> Say:
    """Where progress goes."""
    return Console(highlight=False, markup=False, soft_wrap=True, stderr=True).print


def chosen(option: str, given: Sequence[str], known: Sequence[str]) -> list[str]:
    """What was given, each once; a name that is not known is bad usage."""
    for name in given:
        if name not in known:
            raise typer.BadParameter(f"{option} {name!r}: choose from {', '.join(known)}")
    return list(dict.fromkeys(given))


@contextlib.contextmanager
def contest(
    tier: str, names: Sequence[str], said: Sequence[Utterance], work: Path, say: Say
) -> Iterator[Contest]:
    """What is compared on a tier; the bare model runs until the end of the block."""
    from lab.bare_onnx import BareOnnx  # noqa: PLC0415
    from lab.bench_inference import Contest  # noqa: PLC0415
    from lab.rivals.model import MOST_TOGETHER  # noqa: PLC0415
    from lab.rivals.specs import RIVALS  # noqa: PLC0415

    folder = REPO / "models/catalog" / MODEL / tier
    try:
        card = jsonlib.loads((folder / "card.json").read_text())
    except (OSError, ValueError) as e:
        raise Failed(f"{folder / 'card.json'}: {e}; the bench needs {MODEL}.{tier} in the catalog") from None
    most, output = int(card.get("max_batch", 0)), str(card.get("output", "logits"))

    def launch(name: str) -> Any:
        @contextlib.contextmanager
        def of_rival() -> Iterator[Server]:
            python = installed(name, say)
            say(f"starting: {name}")
            place = work / f"{name}-{tier}"
            argv = [str(python), "-m", f"lab.rivals.{name}_server", str(folder), "{port}", str(place)]
            with answering(RIVALS[name], argv, said, place, RIVAL_WITHIN_S) as server:
                yield server

        return of_rival

    with contextlib.ExitStack() as stack:
        bare = stack.enter_context(BareOnnx(folder, most, output=output, before=LEASH))
        any_batch = None
        if 0 < most < MOST_TOGETHER:
            any_batch = stack.enter_context(BareOnnx(folder, 0, output=output, before=LEASH))
        ours = partial(alone, tier, said, work / f"ours-{tier}")
        yield Contest(bare, any_batch, ours, {name: launch(name) for name in names})


@contextlib.contextmanager
def alone(tier: str, said: Sequence[Utterance], place: Path) -> Iterator[Answering]:
    """`foremesh models serve` with a tier loaded: the command as people start it, so that what it takes to import
    counts in the time to the first answer. Raises NotStarted."""
    from lab.rivals.specs import OURS  # noqa: PLC0415

    argv = [
        sys.executable, "-m", "foremesh.cli", "models", "serve",
        "--catalog", str(REPO / "models/catalog"), "--load", f"{MODEL}.{tier}", "--tier", tier, "--port", "{port}",
    ]  # fmt: skip
    with answering(OURS, argv, said, place, OURS_WITHIN_S) as server:
        yield server


def installed(name: str, say: Say) -> Path:
    """The interpreter of a rival's environment. Raises NotStarted where that cannot be made."""
    from lab.bench_inference import NotStarted  # noqa: PLC0415

    try:
        return environments.interpreter(LOCKS / f"{name}.lock", say)
    except (environments.EnvironmentFailed, OSError) as e:
        raise NotStarted(f"not installed: {e}") from None


@dataclass
class Answering:
    """A `Server` of the lab that runs on this machine."""

    target: Target
    ready_s: float
    accuracy: float
    process: Guarded

    def rss_mb(self) -> float:
        """Resident memory of all its processes, 10^6 bytes."""
        return self.process.rss_mb()


@contextlib.contextmanager
def answering(
    spec: Rival, argv: Sequence[str], said: Sequence[Utterance], place: Path, within_s: float
) -> Iterator[Answering]:
    """A server, up and answering until the end of the block; `{port}` in its command line becomes a free one. It may
    write into `place`, where its log is.

    Raises NotStarted when it ends or does not answer within `within_s`.
    """
    from lab.bench_inference import NotStarted  # noqa: PLC0415

    port = free_ports()
    place.mkdir()
    command = [str(port) if word == "{port}" else word for word in argv]
    try:
        process = Guarded(spec.title, command, log=place / "server.log")
        try:
            ready_s = process.until(lambda: spec.ask(port, said[0].text) is not None, within_s)
            right = sum(spec.ask(port, one.text) == one.intent for one in said)
            yield Answering(spec.target(port, said), ready_s, right / len(said), process)
        finally:
            process.stop()
    except StartFailed as e:
        raise NotStarted(str(e)) from None


def free_ports() -> int:
    """A port of this machine that is free with those after it; below what the kernel hands out to clients."""
    while True:
        port = random.randrange(10_000, 32_000, PORTS)
        if all(is_free(port + n) for n in range(PORTS)):
            return port


def machine() -> dict[str, Any]:
    """What figures of models were measured on: the host, and the version of what runs them."""
    import onnxruntime  # noqa: PLC0415

    return host() | {"onnxruntime": onnxruntime.__version__}


def host() -> dict[str, Any]:
    """This machine; load_1m: before the bench began."""
    cpu = "unknown"
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), cpu)
    return {"cpu": cpu, "cores": os.cpu_count(), "load_1m": round(os.getloadavg()[0], 2)}


def show(figures: dict[str, Any]) -> None:
    """Print the figures as tables: who does how much, and the bars."""
    console = Console(highlight=False, soft_wrap=True)
    table = Table(box=None, header_style="bold")
    table.add_column("tier")
    table.add_column("server")
    for title in ("connections", "RPS", "p50 ms", "p99 ms", "RSS MB", "ready s"):
        table.add_column(title, justify="right")
    for tier in figures["ours"]:
        rows = [("bare", figures["bare"][tier], None)]
        if tier in figures["bare_any_batch"]:
            rows.append(("bare, any batch", figures["bare_any_batch"][tier], None))
        rows.append(("ours", figures["ours"][tier]["at"], figures["ours"][tier]))
        rows += [
            (name, of_tiers[tier]["at"], of_tiers[tier])
            for name, of_tiers in figures["rivals"].items()
            if tier in of_tiers
        ]
        for name, points, server in rows:
            for n, point in points.items():
                cells = [
                    tier,
                    name,
                    n,
                    f"{point['rps']:.0f}",
                    f"{point['p50_ms']:.2f}",
                    f"{point['p99_ms']:.2f}",
                ]
                if server and n == "64":  # the memory is that after this load
                    cells += [f"{server['rss_mb']:.0f}", f"{server['ready_s']:.2f}"]
                table.add_row(*cells)
    console.print(table)
    console.print(bars_table(figures["bars"]))
    for name, why in figures["failed"].items():
        console.print(f"left out: {name}: {why}", markup=False)


def bars_table(bars: Sequence[dict[str, Any]]) -> Table:
    """The bars of `lab.bars.judged` beside the figures."""
    table = Table(box=None, header_style="bold")
    for title in ("figure", "value", "bar", ""):
        table.add_column(title, justify="right" if title in ("value", "bar") else "left")
    for bar in bars:
        limit = f"at least {bar['at_least']:g}" if "at_least" in bar else f"at most {bar['at_most']:g}"
        table.add_row(
            bar["what"], f"{bar['value']:.2f}", limit, "met" if bar["met"] else "[bold red]not met[/]"
        )
    return table
