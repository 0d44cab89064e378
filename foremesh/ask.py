"""`foremesh ask TEXT`: one request through the gateway."""

from __future__ import annotations

import json as jsonlib
import secrets
import sys
from typing import Annotated

import httpx
import typer
from rich.console import Console

from foremesh.mesh import NotUp
from foremesh.options import FAILED, USAGE, Json, PortBase, exits, mesh_settings


@exits
def ask(
    text: Annotated[str, typer.Argument(help="What to ask, in plain words.")],
    port_base: PortBase = 8700,
    session: Annotated[str | None, typer.Option(help="Session to continue (see POST /v1/sessions).")] = None,
    model: Annotated[
        str, typer.Option(help="Model name; MODEL.TIER asks for a certain tier, such as intent.mini.")
    ] = "intent",
    budget_ms: Annotated[
        float | None,
        typer.Option(
            help="Time the answer may take: the most accurate tier that is expected within it answers.",
            min=0.1,
        ),
    ] = None,
    min_accuracy: Annotated[
        float | None, typer.Option(help="Accuracy on its card that the tier must have.", min=0, max=1)
    ] = None,
    json: Json = False,
) -> None:
    """Ask the mesh what you want: the gateway passes it on to routing, tokenization and inference.

    The request is always traced; `foremesh trace ID` shows where its time went.
    Exit codes: 0 answered, 1 refused or failed by the mesh, 2 the request was wrong, 3 no mesh is up.
    """
    settings = mesh_settings(port_base)
    trace_id = secrets.token_hex(16)
    asked = {"session_id": session, "latency_budget_ms": budget_ms, "min_accuracy": min_accuracy}
    body = {"text": text, "model": model} | {
        name: value for name, value in asked.items() if value is not None
    }
    try:
        reply = httpx.post(
            f"{settings.gateway_url}/v1/intents",
            json=body,
            headers={"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01"},
            timeout=10.0,
        )
    except httpx.TransportError as e:
        raise NotUp(
            f"the gateway at {settings.gateway_url} does not answer ({e}); start it with `foremesh up`"
        ) from None
    answer = reply.json()
    if json:
        print(jsonlib.dumps(answer, indent=2))
    if reply.is_error:
        if not json:
            print(
                f"foremesh: {reply.status_code} {answer.get('title')}: {answer.get('detail')}",
                file=sys.stderr,
            )
        raise typer.Exit(USAGE if reply.status_code < 500 and reply.status_code != 429 else FAILED)
    if not json:
        console = Console()
        console.print(f"[bold]{answer['intent']}[/]  {answer['score']:.1%}", highlight=False)
        for other in answer["alternatives"]:
            console.print(f"  {other['intent']}  {other['score']:.1%}", style="dim", highlight=False)
        for slot in answer.get("slots", []):
            console.print(f"  {slot['type']}: {slot['value']}", highlight=False)
        timings = "  ".join(f"{k} {v:.2f} ms" for k, v in answer["timings_ms"].items())
        who = f"{answer['model']}/{answer['tier']} v{answer['version']}: {answer['reason']}"
        console.print(f"{who}{', degraded' if answer['degraded'] else ''}\n{timings}", highlight=False)
        console.print(f"foremesh trace {answer['trace_id']}", highlight=False)
