"""`foremesh bench overload` and `foremesh bench memory`: inference alone under more load than it takes, and under mixed
load for long."""

from __future__ import annotations

import contextlib
import json as jsonlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from deploy.local import tools
from deploy.local.settings import REPO
from foremesh.bench_inference import TIERS, alone, check_out, chosen, console, machine
from foremesh.mesh import Failed
from foremesh.options import exits

if TYPE_CHECKING:
    from foremesh.bench_inference import Answering
    from lab.rounds import Say
    from lab.utterances import Utterance

Json = Annotated[Path | None, typer.Option(help="Write the figures as JSON.", metavar="OUT")]
LEAST_GOODPUT, REFUSED_WITHIN_MS, RECOVERED_WITHIN_S, MOST_GROWTH = 0.9, 50.0, 2.0, 0.02
"""Bars: share of capacity that stays goodput; the 99th percentile of refusals; seconds; share that memory grows by."""


@exits
def overload(
    json: Json = None,
    tier: Annotated[str, typer.Option(help=f"Tier of the model: {', '.join(TIERS)}.")] = "base",
    factor: Annotated[float, typer.Option(help="Load as a multiple of the capacity.", min=1.1, max=20)] = 3.0,
    seconds: Annotated[float, typer.Option(help="Length of the overload.", min=1, max=3600)] = 60.0,
) -> None:
    """What is left of inference alone (`foremesh models serve`) under a multiple of the load that it takes.

    First what it takes at 64 connections, then that many times as many requests, at random moments, whoever is slow.
    Shown are: right answers per second as a share of the capacity, how fast the rest is refused (429 or 503 with
    Retry-After), memory, and how soon answers take no longer than before. The client runs on the same machine: base is
    slow enough for it to keep up, and `lag_p99_ms` says whether it did.

    Example: foremesh bench overload --seconds 60 --json overload.json

    Exit codes: 0 measured, 1 it did not start or did not answer, 2 wrong usage. A figure below its bar is marked and
    changes no exit code.
    """
    chosen("--tier", [tier], TIERS)
    check_out(json)
    from lab.closed_loop import LoadGenerator  # noqa: PLC0415 (numpy is slow to import)
    from lab.overload import SETTLE_S  # noqa: PLC0415
    from lab.overload import overload as put  # noqa: PLC0415

    say = console()
    with serving(tier, say) as (server, said):
        found = put(
            base(server), said, LoadGenerator(tools.built(tools.LOADGEN)), server.rss_mb,
            factor=factor, seconds=seconds, settle_s=min(SETTLE_S, seconds), say=say,
        )  # fmt: skip
    refused, recovery = found["refused_p99_ms"], found["recovery_s"]
    show(
        json,
        {"machine": machine(), "tier": tier, "factor": factor, **found},
        [
            ("goodput, of capacity", found["goodput_of_capacity"], f">= {LEAST_GOODPUT}",
             found["goodput_of_capacity"] >= LEAST_GOODPUT),
            ("refusals p99, ms", refused, f"<= {REFUSED_WITHIN_MS:g}",
             refused is None or refused <= REFUSED_WITHIN_MS),
            ("refusals name a time", found["retry_after"], "yes", found["retry_after"]),
            ("failed", found["failed"], "0", not found["failed"]),
            ("memory grows by", found["memory_growth"], f"<= {MOST_GROWTH}", found["memory_growth"] <= MOST_GROWTH),
            ("recovered after, s", recovery, f"<= {RECOVERED_WITHIN_S:g}",
             recovery is not None and recovery <= RECOVERED_WITHIN_S),
        ],
        f"capacity {found['capacity_rps']:.0f}/s, offered {found['offered_rps']:.0f}/s, answered "
        f"{found['goodput_rps']:.0f}/s; the client's own lag p99 {found['lag_p99_ms']:.1f} ms",
    )  # fmt: skip


@exits
def memory(
    json: Json = None,
    seconds: Annotated[float, typer.Option(help="Length of the load.", min=2, max=86_400)] = 3600.0,
    pause_ms: Annotated[
        float, typer.Option(help="Between two requests of a client.", min=0, max=1000)
    ] = 20.0,
) -> None:
    """What the memory of inference alone (`foremesh models serve`) does under mixed load: every protocol, good requests
    and bad ones, texts of all lengths, models that come and go.

    Example: foremesh bench memory --seconds 3600 --json memory.json

    Exit codes: 0 measured, 1 it did not start, or answered something wrongly, 2 wrong usage.
    """
    check_out(json)
    from lab.soak import soak  # noqa: PLC0415

    say = console()
    with serving("tiny", say) as (server, said):
        found = soak(base(server), said, server.rss_mb, seconds=seconds, pause_s=pause_ms / 1e3, say=say)
    show(
        json,
        {"machine": machine(), **found},
        [
            (
                "memory grows by",
                found["memory_growth"],
                f"<= {MOST_GROWTH}",
                found["memory_growth"] <= MOST_GROWTH,
            )
        ],
        f"{sum(found['requests'].values())} requests; {found['memory_mb'][0]:.1f} MB behind the first tenth of the "
        f"time, {found['memory_mb'][1]:.1f} MB in the last",
    )
    if found["wrong"]:
        raise Failed(f"{found['wrong']} requests were answered wrongly, first: {found['first_wrong']}")


@contextlib.contextmanager
def serving(tier: str, say: Say) -> Iterator[tuple[Answering, list[Utterance]]]:
    """The server, and what it is asked."""
    from lab.bench_inference import NotStarted  # noqa: PLC0415
    from lab.closed_loop import LoadFailed  # noqa: PLC0415
    from lab.utterances import read_utterances  # noqa: PLC0415

    said = read_utterances(REPO / "models/data/utterances.tsv")
    with tempfile.TemporaryDirectory(prefix="foremesh-bench-") as work:
        say(f"starting: foremesh models serve --load intent.{tier}")
        try:
            with alone(tier, said, Path(work) / "ours") as server:
                yield server, list(said)
        except (NotStarted, LoadFailed) as e:
            raise Failed(str(e)) from None


def base(server: Answering) -> str:
    """Its address, without a path."""
    return server.target.url.removesuffix("/v1/intents")


def show(
    out: Path | None, figures: dict[str, Any], bars: list[tuple[str, Any, str, bool]], told: str
) -> None:
    """Write the figures, and print them beside their bars."""
    if out:
        out.write_text(jsonlib.dumps(figures, indent=2) + "\n")
    table = Table(box=None, header_style="bold")
    for title in ("figure", "value", "bar", ""):
        table.add_column(title, justify="right" if title in ("value", "bar") else "left")
    for what, value, bar, met in bars:
        shown = "none" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
        table.add_row(what, shown, bar, "met" if met else "[bold red]not met[/]")
    people = Console(highlight=False, soft_wrap=True)
    people.print(told, markup=False)
    people.print(table)
