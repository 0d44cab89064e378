"""`foremesh trace ID`: where the time of one request went."""

from __future__ import annotations

import asyncio
import json as jsonlib
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from foremesh.options import FAILED, NOT_UP, USAGE, Json, PortBase

if TYPE_CHECKING:
    from rich.table import Table

    from services.dashboard.traces import Row, Waterfall

PATIENCE_S = 5.0
POLL_S = 0.4
BAR = 32
COLOURS = {
    "gateway": "cyan",
    "routing": "bright_blue",
    "tokenization": "yellow",
    "inference": "magenta",
    "predictor": "bright_magenta",
    "autoscaler": "green",
}


def trace(
    trace_id: Annotated[str, typer.Argument(help="Trace id: 16 to 32 hexadecimal digits.", metavar="ID")],
    port_base: PortBase = 8700,
    jaeger_url: Annotated[
        str | None,
        typer.Option(help="Jaeger's query API; the mesh's own by default.", envvar="FOREMESH_JAEGER_URL"),
    ] = None,
    json: Json = False,
) -> None:
    """Print the tree of a request, sidecars and all: when each span began, how long it took, what failed.

    Spans arrive some seconds after the request; for up to 5 s an incomplete trace is read again.
    Exit codes: 0 printed, 1 the trace is not known (yet), 2 that is no trace id, 3 no Jaeger answers.
    """
    from services.dashboard.jaeger import JaegerUnavailable  # noqa: PLC0415  # not on the way of other verbs

    url = jaeger_url or f"http://127.0.0.1:{port_base + 2}"
    try:
        found = asyncio.run(read(url, trace_id.strip().lower()))
    except ValueError as why:
        print(f"foremesh: {why}", file=sys.stderr)
        raise typer.Exit(USAGE) from None
    except JaegerUnavailable as why:
        print(f"foremesh: {why}; is the mesh up? (foremesh status)", file=sys.stderr)
        raise typer.Exit(NOT_UP) from None
    if found is None:
        print(
            f"foremesh: trace {trace_id} is not known to {url}: not sampled, too old, or not there yet",
            file=sys.stderr,
        )
        raise typer.Exit(FAILED)
    if json:
        print(jsonlib.dumps(found.document(), indent=2))
        return
    show(found)


async def read(url: str, trace_id: str) -> Waterfall | None:
    """The waterfall of a trace, read again until it is complete and has stopped growing, or 5 s are over.

    None when it is still unknown then. Raises ValueError (no trace id) and JaegerUnavailable.
    """
    from services.dashboard.jaeger import Jaeger  # noqa: PLC0415

    jaeger = Jaeger(url)
    deadline = time.monotonic() + PATIENCE_S
    seen = -1
    try:
        while True:
            found = await jaeger.trace(trace_id)
            grown = found is not None and len(found.rows) != seen
            if (found is not None and found.complete and not grown) or time.monotonic() >= deadline:
                return found
            seen = len(found.rows) if found is not None else -1
            await asyncio.sleep(POLL_S)
    finally:
        await jaeger.close()


def show(found: Waterfall) -> None:
    """Print a waterfall: the tree on the left, times and bars on the right."""
    from rich.console import Console  # noqa: PLC0415

    console = Console()
    document = found.document()
    errors = f"[red]{document['errors']} errors[/]" if document["errors"] else "no errors"
    began = time.strftime("%H:%M:%S", time.localtime(found.started_at))
    console.print(
        f"[bold]trace {found.trace_id}[/]  {began}  [bold]{document['duration_ms']:.2f} ms[/]"
        f"  {len(found.rows)} spans, {len(document['services'])} services, {errors}",
        highlight=False,
    )
    console.print(_table(found))
    if not found.complete:
        console.print("[yellow]incomplete: some spans have not arrived[/]")
    if found.left_out:
        console.print(f"[yellow]{found.left_out} spans are not shown[/]")


def _table(found: Waterfall) -> Table:
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, header_style="dim", padding=(0, 1))
    table.add_column("span", no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column("at ms", justify="right", no_wrap=True, min_width=7)
    table.add_column("took ms", justify="right", no_wrap=True, min_width=7)
    table.add_column("", no_wrap=True, min_width=BAR, max_width=BAR)
    shared = {row.span.span_id for row in found.rows if row.linked}
    for row, guide in zip(found.rows, _guides(found.rows), strict=True):
        joins = row.linked and row.span.parent_id not in shared
        table.add_row(
            _label(row, guide, joins),
            f"{row.start_us / 1000:.2f}",
            f"{row.span.duration_us / 1000:.2f}",
            _bar(row, found.duration_us),
        )
    return table


def _label(row: Row, guide: str, joins: bool) -> str:
    from rich.markup import escape  # noqa: PLC0415

    span = row.span
    colour = COLOURS.get(span.service, "white")
    marks = [
        ("sidecar", "dim", span.sidecar),
        ("shared from here on", "magenta", joins),
        ("orphan", "yellow", row.orphan),
        ("clock", "yellow", row.skew_us != 0),
        ("error", "red", span.error),
    ]
    shown = "".join(f" [{style}]({mark})[/]" for mark, style, on in marks if on)
    return f"[dim]{guide}[/][{colour}]{escape(span.service)}[/] {escape(span.operation)}{shown}"


def _guides(rows: tuple[Row, ...]) -> list[str]:
    """The lines that lead to each row. A level goes on while another row of that depth follows below it."""
    guides: list[str] = []
    open_below: set[int] = set()
    for row in reversed(rows):
        depth = row.depth
        last = depth not in open_below
        open_below = {level for level in open_below if level <= depth} | {depth}
        stem = "".join("│  " if level in open_below else "   " for level in range(1, depth))
        guides.append("" if depth == 0 else stem + ("└─ " if last else "├─ "))
    return guides[::-1]


def _bar(row: Row, total_us: int) -> str:
    """Where in the request the span lies; a span too short for its own cell still gets one."""
    scale = BAR / max(total_us, 1)
    start = min(BAR - 1, int(row.start_us * scale))
    length = max(1, min(BAR - start, round(row.span.duration_us * scale)))
    colour = "red" if row.span.error else COLOURS.get(row.span.service, "white")
    fill = "╍" if row.span.sidecar else "━"
    return f"{' ' * start}[{colour}]{fill * length}[/]"
