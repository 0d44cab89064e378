"""`foremesh scale APP N`: set the number of replicas by hand."""

from __future__ import annotations

import json as jsonlib
import time
from typing import Annotated, Any

import typer

from foremesh.mesh import Failed, MeshClient
from foremesh.options import Json, PortBase, exits, mesh_settings


@exits
def scale(
    app: Annotated[str, typer.Argument(help="The app to scale; today: inference.")],
    replicas: Annotated[
        str, typer.Argument(help="How many replicas, or `auto` to let the autoscaler decide again.")
    ],
    port_base: PortBase = 8700,
    wait: Annotated[
        float, typer.Option(help="Seconds to wait until they are ready; 0 returns at once.", min=0)
    ] = 30.0,
    json: Json = False,
) -> None:
    """Set the number of replicas by hand (an app and its sidecar together); the ones that go finish what they have.

    The autoscaler holds that number (policy static:N) until `foremesh scale inference auto` hands it back.
    Exit codes: 0 done, 1 refused or not ready in time, 2 not a number, 3 no mesh is up.
    """
    mesh = MeshClient(mesh_settings(port_base))
    if replicas == "auto":
        mesh.configure(policy=mesh.status()["policy_at_start"])
        document = mesh.app(app)
    elif replicas.isdecimal():
        document = set_by_hand(mesh, app, int(replicas), wait)
    else:
        raise typer.BadParameter(f"replicas must be a whole number or auto, not '{replicas}'")
    print(jsonlib.dumps(document) if json else f"{app}: {document['ready']} ready of {document['wanted']}")


def set_by_hand(mesh: MeshClient, app: str, replicas: int, within_s: float) -> dict[str, Any]:
    """Scale, have the autoscaler hold it, and wait until all are ready and the others have gone. Raises Failed."""
    document = mesh.scale(app, replicas)
    mesh.configure(policy=f"static:{replicas}")
    # The autoscaler may have decided something else between the two.
    document = mesh.scale(app, replicas)
    deadline = time.monotonic() + within_s
    while within_s and (document["ready"], document["starting"], document["draining"]) != (replicas, 0, 0):
        if time.monotonic() > deadline:
            raise Failed(
                f"{document['ready']} of {replicas} replicas of '{app}' are ready after {within_s:.0f} s"
            )
        time.sleep(0.05)
        document = mesh.app(app)
    return document
