"""`foremesh logs APP`: what a process wrote."""

from __future__ import annotations

import sys
import time
from collections import deque
from pathlib import Path
from typing import Annotated

import typer

from foremesh.options import USAGE, PortBase, exits, mesh_settings


@exits
def logs(
    app: Annotated[
        str, typer.Argument(help="gateway, routing, inference-1, routing.sidecar, redis, supervisor, ...")
    ],
    port_base: PortBase = 8700,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many lines from the end.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
) -> None:
    """Show a process' log: one JSON object a line, with the trace id where there is one.

    Works when the mesh is down, too: logs stay in the run directory (three old ones are kept for each process).
    Exit codes: 0 shown, 2 no such log.
    """
    folder = mesh_settings(port_base).run_dir / "logs"
    file = folder / f"{app}.log"
    known = sorted(f.name.removesuffix(".log") for f in folder.glob("*.log"))
    if f"{app}.log" not in {f.name for f in folder.glob("*.log")}:
        print(f"foremesh: no log of '{app}' in {folder} ({', '.join(known) or 'none yet'})", file=sys.stderr)
        raise typer.Exit(USAGE)
    with file.open(errors="replace") as f:
        for line in deque(f, maxlen=lines):
            print(line, end="")
        if follow:
            tail(f.tell(), file)


def tail(offset: int, file: Path) -> None:
    """Print what is appended from `offset` on; starts over when the file was rotated."""
    try:
        while True:
            size = file.stat().st_size
            if size < offset:
                offset = 0
            if size > offset:
                with file.open(errors="replace") as f:
                    f.seek(offset)
                    print(f.read(), end="", flush=True)
                    offset = f.tell()
            time.sleep(0.2)
    except KeyboardInterrupt:
        return
