"""The gateway and the proxies that it is measured beside: one route table, written as each of them wants it.

Every route leads to one upstream, sets `X-Site`, removes `X-Debug` and sets `X-Served-By` on the answer. All keep
connections on both sides, write no access log and count what they count by default or, where it has to be asked for,
by route (Envoy). nginx has no counts by route. Everything listens on loopback.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIMEOUT_S = 10
"""Time for a request behind a proxy, the same in all."""
KEPT = 256
"""Connections to the upstream that a proxy keeps, so that it need never make one at 64 connections of clients."""
_CLIENTS = 4096
_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Route:
    """A path, or what begins with it, for requests that carry ``header`` (name, value) where one is named."""

    name: str
    path: str
    prefix: bool = True
    header: tuple[str, str] | None = None


ASKED = "/v1/things/7"
"""What the load asks for: the route `things`, as the more specific one needs a header."""
ROUTES = (
    Route("status", "/v1/status", prefix=False),
    Route("intents", "/v1/intents", prefix=False),
    Route("embeddings", "/v1/embeddings", prefix=False),
    Route("summaries", "/v1/summaries", prefix=False),
    Route("models", "/v1/models"),
    Route("orders", "/v1/orders"),
    Route("inventory", "/v1/inventory"),
    Route("sessions", "/v1/sessions"),
    Route("gold", "/v1/things", header=("X-Tier", "gold")),
    Route("things", "/v1/things"),
)

Write = Callable[[Path, int, int, Sequence[Route]], list[str]]
"""Writes what a proxy reads into a folder; returns its command. Arguments: folder, the port to listen on (it may use
the next one too), the upstream's port, the routes."""


def many_routes(count: int) -> tuple[Route, ...]:
    """As many routes, the last of which has the path that is asked for."""
    return (*(Route(f"r{n}", f"/v1/r{n}") for n in range(count - 1)), Route("things", "/v1/things"))


def gateway(binary: Path) -> Write:
    """The gateway: Gateway API objects in a folder, its settings in the environment (none of them is secret)."""

    def write(place: Path, port: int, upstream: int, routes: Sequence[Route]) -> list[str]:
        service = {"name": "site", "port": 80}
        book = {
            "apiVersion": "foremesh.dev/v1alpha1",
            "kind": "AddressBook",
            "metadata": {"name": "bench"},
            "spec": {"services": [{**service, "addresses": [f"{_LOOPBACK}:{upstream}"]}]},
        }
        folder = place / "routes"
        folder.mkdir()
        objects = [book, *(_http_route(route, service) for route in routes)]
        (folder / "bench.yaml").write_text("\n---\n".join(json.dumps(one) for one in objects))
        return [
            "env", "-i", f"FOREMESH_PUBLIC_PORT={port}", f"FOREMESH_PORT={port + 1}", f"FOREMESH_ROUTES={folder}",
            f"FOREMESH_BACKEND_TIMEOUT={TIMEOUT_S}s", str(binary),
        ]  # fmt: skip

    return write


def _http_route(route: Route, service: dict[str, Any]) -> dict[str, Any]:
    match: dict[str, Any] = {"path": {"type": "PathPrefix" if route.prefix else "Exact", "value": route.path}}
    if route.header:
        match["headers"] = [dict(zip(("name", "value"), route.header, strict=True))]
    request = {"set": [{"name": "X-Site", "value": "edge"}], "remove": ["X-Debug"]}
    answer = {"set": [{"name": "X-Served-By", "value": "edge"}]}
    filters = [
        {"type": "RequestHeaderModifier", "requestHeaderModifier": request},
        {"type": "ResponseHeaderModifier", "responseHeaderModifier": answer},
    ]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": route.name},
        "spec": {"rules": [{"matches": [match], "filters": filters, "backendRefs": [service]}]},
    }


def bare(binary: Path) -> Write:
    """net/http's reverse proxy and nothing else: no routes (`lab/loadgen/bareproxy`)."""
    return lambda place, port, upstream, routes: [str(binary), str(port), str(upstream)]


def envoy(binary: Path) -> Write:
    """Envoy with a worker for each core, as it starts by default; `stat_prefix` has it count by route."""

    def write(place: Path, port: int, upstream: int, routes: Sequence[Route]) -> list[str]:
        listener = {
            "name": "people",
            "address": _socket(port),
            "filter_chains": [
                {"filters": [_typed("envoy.filters.network.http_connection_manager", _manager(routes))]}
            ],
        }
        cluster = {
            "name": "site",
            "connect_timeout": "2s",
            "type": "STATIC",
            "circuit_breakers": {
                "thresholds": [
                    dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), _CLIENTS)
                ]
            },
            "load_assignment": {
                "cluster_name": "site",
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _socket(upstream)}}]}],
            },
        }
        document = {
            "admin": {"address": _socket(port + 1)},
            "static_resources": {"listeners": [listener], "clusters": [cluster]},
        }
        config = place / "envoy.json"
        config.write_text(json.dumps(document))
        return [str(binary), "-c", str(config), "--log-level", "warning", "--disable-hot-restart"]

    return write


def _socket(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": _LOOPBACK, "port_value": port}}


def _typed(name: str, config: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "typed_config": config}


def _manager(routes: Sequence[Route]) -> dict[str, Any]:
    """Of an Envoy at the edge, as its documentation has it: paths normalised, the client is who connects."""
    package = "type.googleapis.com/envoy.extensions.filters"
    router = _typed("envoy.filters.http.router", {"@type": f"{package}.http.router.v3.Router"})
    return {
        "@type": f"{package}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "people",
        "use_remote_address": True,
        "normalize_path": True,
        "merge_slashes": True,
        "request_headers_timeout": "5s",
        "http_filters": [router],
        "route_config": {"virtual_hosts": [
            {"name": "all", "domains": ["*"], "routes": [_envoy_route(route) for route in routes]}
        ]},
    }  # fmt: skip


def _envoy_route(route: Route) -> dict[str, Any]:
    match: dict[str, Any] = {"path_separated_prefix" if route.prefix else "path": route.path}
    if route.header:
        name, value = route.header
        match["headers"] = [{"name": name, "string_match": {"exact": value}}]

    def put(name: str) -> list[dict[str, Any]]:
        return [{"header": {"key": name, "value": "edge"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}]

    return {
        "match": match,
        "stat_prefix": route.name,
        "route": {"cluster": "site", "timeout": f"{TIMEOUT_S}s"},
        "request_headers_to_add": put("X-Site"),
        "request_headers_to_remove": ["X-Debug"],
        "response_headers_to_add": put("X-Served-By"),
    }


def nginx(binary: Path) -> Write:
    """nginx with a worker for each core; a route that needs a header is a variable of its path's location."""

    def write(place: Path, port: int, upstream: int, routes: Sequence[Route]) -> list[str]:
        temporary = "\n".join(
            f"  {kind}_temp_path {place}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        user = "user root;" if os.geteuid() == 0 else ""
        config = place / "nginx.conf"
        config.write_text(f"""{user}
daemon off; pid {place}/nginx.pid; error_log stderr warn; worker_processes auto;
events {{ worker_connections {2 * _CLIENTS}; }}
http {{
{temporary}
  access_log off; keepalive_requests 1000000000; keepalive_timeout 60s; client_header_timeout 5s; tcp_nodelay on;
  upstream site {{ server {_LOOPBACK}:{upstream}; keepalive {KEPT}; keepalive_requests 1000000000; }}
  {_by_header(routes)}
  server {{ listen {_LOOPBACK}:{port + 1}; location = /metrics {{ stub_status; }} }}
  server {{
    listen {_LOOPBACK}:{port} backlog=1024;
    proxy_http_version 1.1; proxy_read_timeout {TIMEOUT_S}s; proxy_connect_timeout 2s;
    proxy_set_header Connection ""; proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Site edge; proxy_set_header X-Debug "";
    add_header X-Served-By edge;
    {_locations(routes)}
  }}
}}
""")
        return [str(binary), "-c", str(config), "-p", str(place), "-e", "stderr"]

    return write


def _variable(path: str) -> str:
    return "$to" + path.replace("/", "_")


def _by_header(routes: Sequence[Route]) -> str:
    """A variable for each path with a route that needs a header: the upstream by that header's value."""
    needing = [(route.path, *route.header) for route in routes if route.header]
    return "\n  ".join(
        f"map $http_{name.lower().replace('-', '_')} {_variable(path)} {{ default site; {value} site; }}"
        for path, name, value in needing
    )


def _locations(routes: Sequence[Route]) -> str:
    by_header = {route.path for route in routes if route.header}
    locations = []
    for route in routes:
        if not route.header:
            to = _variable(route.path) if route.path in by_header else "site"
            equals = "" if route.prefix else "= "
            locations.append(f"location {equals}{route.path} {{ proxy_pass http://{to}; }}")
    return "\n    ".join(locations)
