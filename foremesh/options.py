"""Options that several verbs share, and how errors become exit codes."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ParamSpec

import typer
from pydantic import ValidationError

from deploy.local.ports import NoFreePort
from deploy.local.settings import MeshSettings
from deploy.local.tools import ToolMissing
from foremesh.mesh import Failed, NotUp

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

P = ParamSpec("P")

PortBase = Annotated[
    int,
    typer.Option(
        "--port-base",
        help="Port base of the mesh: gateway on it, dashboard +1, Jaeger +2.",
        envvar="FOREMESH_PORT_BASE",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]

OK, FAILED, USAGE, NOT_UP = 0, 1, 2, 3
EXIT_CODES = "Exit codes: 0 done, 1 failed, 2 bad usage or input, 3 no mesh is up."


def mesh_settings(port_base: int, **given: object) -> MeshSettings:
    """Settings from the environment, overridden by the flags that were given (None = not given)."""
    try:
        return MeshSettings(port_base=port_base, **{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]
    except ValidationError as e:
        first = e.errors()[0]
        if not first["loc"]:  # a rule about several settings; it names them itself
            raise typer.BadParameter(first["msg"].removeprefix("Value error, ")) from None
        name = ".".join(map(str, first["loc"])).replace("_", "-")
        raise typer.BadParameter(f"--{name}: {first['msg']} (got {first['input']!r})") from None


def exits(verb: Callable[P, None]) -> Callable[P, None]:
    """Turn the errors a user can meet into one line on stderr and a code that means something."""

    @functools.wraps(verb)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            verb(*args, **kwargs)
        except NotUp as e:
            print(f"foremesh: {e}", file=sys.stderr)
            raise typer.Exit(NOT_UP) from None
        except (Failed, ToolMissing, NoFreePort) as e:
            print(f"foremesh: {e}", file=sys.stderr)
            raise typer.Exit(FAILED) from None

    return run


def writable(option: str, path: Path) -> Path:
    """Where a result will lie, links followed. Raises ValueError, naming the option, when no plain file can be written
    there: better before the work than after it.
    """
    target = path.resolve()
    if not target.parent.is_dir():
        raise ValueError(f"{option} {path}: there is no folder {target.parent}")
    if target.exists() and not target.is_file():
        raise ValueError(f"{option} {path} is there and is no plain file; name another one")
    return target


def progress_bar(console: Console, *, disable: bool = False, shares: bool = False) -> Progress:
    """How far a long work is, of how many steps, and how long it will take yet.

    shares: what is completed is a share of 1, and shown in percent.
    """
    from rich import progress  # noqa: PLC0415

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TaskProgressColumn() if shares else progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
        console=console,
        disable=disable,
        speed_estimate_period=120.0 if shares else 30.0,
    )
