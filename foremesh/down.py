"""`foremesh down`: stop a mesh."""

from __future__ import annotations

from foremesh.mesh import MeshClient
from foremesh.options import PortBase, exits, mesh_settings


@exits
def down(port_base: PortBase = 8700) -> None:
    """Stop the mesh in order: gateway, apps (what is in flight is finished), sentry, Jaeger, Redis.

    State in Redis stays in the run directory for the next start. Exit codes: 0 stopped, 3 no mesh is up.
    """
    MeshClient(mesh_settings(port_base)).down()
    print("down")
