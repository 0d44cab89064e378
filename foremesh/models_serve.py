"""`foremesh models serve`: inference alone, without a mesh."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from deploy.local.settings import REPO
from foremesh.options import exits


@exits
def serve(
    catalog: Annotated[
        Path,
        typer.Option(
            help="Folder of the catalog: MODEL/TIER/ with card.json, model.onnx, tokenizer.json.",
            envvar="FOREMESH_CATALOG",
            metavar="DIR",
            show_default="models/catalog",
        ),
    ] = REPO / "models/catalog",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8080,
    grpc_port: Annotated[
        int,
        typer.Option(
            help="Port for the v2 protocol over gRPC (`tritonclient.grpc`; grpc.health.v1 for probes), on the same "
            "address and without authentication, too. 0: none, and its library takes no memory.",
            min=0,
            max=65535,
        ),
    ] = 0,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on. There is no authentication: beyond loopback, put a proxy before it."
        ),
    ] = "127.0.0.1",
    load: Annotated[
        list[str] | None,
        typer.Option(
            help="MODEL.TIER to load at the start and keep; may be repeated. Others come with the first call for them.",
            metavar="MODEL.TIER",
        ),
    ] = None,
    tier: Annotated[str, typer.Option(help="Tier that answers where a model is named without one.")] = "tiny",
    memory_mb: Annotated[
        float,
        typer.Option(
            help="Resident memory, 10^6 bytes, beyond which a model must go for another; 0: no bound.", min=0
        ),
    ] = 0.0,
    idle_s: Annotated[
        float,
        typer.Option(help="Seconds without a call after which a model goes from memory; 0: never.", min=0),
    ] = 600.0,
) -> None:
    """Serve the models of a catalog from this process alone: no mesh, no sidecar, no containers.

    It answers POST /v1/intents ({"text": ...} or {"texts": [...]}), POST /v1/summaries, OpenAI's POST /v1/embeddings
    and GET /v1/models, and the Open Inference Protocol v2 below /v2 with its binary tensors, so the clients `openai`
    and `tritonclient` work; with --grpc-port it answers that protocol over gRPC, too. The catalog is watched: a new
    version takes over without a dropped request, a file that is not what its card says is refused. GET /healthz,
    /readyz and /metrics are for whoever looks after it; SIGTERM drains.

    Example: foremesh models serve --load intent.tiny --port 8080 --grpc-port 8081

    Exit codes: 0 ended by a signal, 1 the catalog or a port cannot be used, 2 wrong usage.
    """
    import msgspec  # noqa: PLC0415

    options = {
        "catalog": str(catalog.absolute()), "preload": load or [], "preferred": tier, "host": host, "port": port,
        "grpc_port": grpc_port, "memory_mb": memory_mb, "idle_s": idle_s,
    }  # fmt: skip
    # In place of this process: the command's own libraries would stay in memory for as long as it serves.
    os.chdir(REPO)
    os.execv(  # noqa: S606 (this interpreter)
        sys.executable,
        [sys.executable, "-m", "services.inference.standalone", msgspec.json.encode(options).decode()],
    )
