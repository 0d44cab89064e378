"""`foremesh scale APP N`: set the number of replicas by hand."""

from __future__ import annotations

import json as jsonlib
import time
from typing import Annotated

import typer

from foremesh.mesh import Failed, MeshClient
from foremesh.options import Json, PortBase, exits, mesh_settings


@exits
def scale(
    app: Annotated[str, typer.Argument(help="The app to scale; today: inference.")],
    replicas: Annotated[int, typer.Argument(min=0, help="How many replicas.")],
    port_base: PortBase = 8700,
    wait: Annotated[
        float, typer.Option(help="Seconds to wait until they are ready; 0 returns at once.", min=0)
    ] = 30.0,
    json: Json = False,
) -> None:
    """Add or remove replicas (an app and its sidecar together); the ones that go finish what they have.

    The autoscaler goes on deciding: start the mesh with `--policy static:N` when a number should stay.
    Exit codes: 0 done, 1 refused or not ready in time, 3 no mesh is up.
    """
    mesh = MeshClient(mesh_settings(port_base))
    document = mesh.scale(app, replicas)
    deadline = time.monotonic() + wait
    while wait and (document["ready"], document["draining"]) != (replicas, 0):
        if time.monotonic() > deadline:
            raise Failed(
                f"{document['ready']} of {replicas} replicas of '{app}' are ready after {wait:.0f} s"
            )
        time.sleep(0.05)
        document = mesh.app(app)
        if document["wanted"] != replicas:
            raise Failed(
                f"something else (the autoscaler?) asked for {document['wanted']} replicas meanwhile"
            )
    print(jsonlib.dumps(document) if json else f"{app}: {document['ready']} ready of {document['wanted']}")
