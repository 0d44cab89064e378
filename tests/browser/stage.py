"""A dashboard to look at: the real process, with stand-ins for the supervisor's socket and for Jaeger.

What comes from the mesh is posted to `/events/<topic>` over HTTP with the app's token, as a sidecar does.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any, Self

import httpx

REPO = Path(__file__).resolve().parents[2]
RECORDED = json.loads((Path(__file__).parent / "recorded_traces.json").read_text("utf-8"))
TOKEN = "token-of-the-stage"
APPS = ("gateway", "routing", "tokenization", "predictor", "autoscaler", "dashboard")
START_S = 15.0


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class _UnixServer(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True


def _handler(answer: Any) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Answers GET with `answer(path)`: a status and a JSON document."""

        def do_GET(self) -> None:
            status, document = answer(self.path)
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing: the address of a Unix client is not a pair."""

        def address_string(self) -> str:
            """A Unix client has none."""
            return "stage"

    return Handler


class Stage:
    """Context manager; `url` is the page, `replicas` (name to state) what the supervisor reports."""

    def __init__(self, folder: Path, *, chart_s: float = 900.0, max_clients: int = 32) -> None:
        self.folder = folder
        self.port, self.public_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.public_port}"
        self.replicas = {"inference-1": "ready"}
        self.mtls = True
        self.traffic = 0  # another number: other traces
        self.markup = ""  # what a hostile service would put into the names of its spans
        self.certificates_end = time.time() + 3600
        self.extra = {"FOREMESH_CHART_S": str(chart_s), "FOREMESH_MAX_CLIENTS": str(max_clients)}
        self.started_in_s = 0.0
        self._stack = ExitStack()
        self._recorded_at = time.time()

    def __enter__(self) -> Self:
        control = self.folder / "control.sock"
        supervisor = _UnixServer(str(control), _handler(self._supervisor))
        jaeger = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self._jaeger))
        for server in (supervisor, jaeger):
            threading.Thread(target=server.serve_forever, daemon=True).start()
            self._stack.callback(server.server_close)
            self._stack.callback(server.shutdown)
        env = {key: value for key, value in os.environ.items() if not key.startswith(("FOREMESH_", "DAPR_"))}
        env |= {
            "FOREMESH_APP_ID": "dashboard",
            "FOREMESH_INSTANCE": "dashboard",
            "FOREMESH_PORT": str(self.port),
            "FOREMESH_PUBLIC_PORT": str(self.public_port),
            "FOREMESH_CONTROL_SOCKET": str(control),
            "FOREMESH_JAEGER_URL": f"http://127.0.0.1:{jaeger.server_port}",
            "APP_API_TOKEN": TOKEN,
            **self.extra,
        }
        self.env = env
        self.sidecar = self._stack.enter_context(
            httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=5.0)
        )
        self.start_process()
        return self

    def start_process(self) -> None:
        """Start the dashboard and wait until it is ready. Raises RuntimeError with its log when it is not."""
        began = time.monotonic()
        argv = [sys.executable, "-m", "services.dashboard"]
        with (self.folder / "dashboard.log").open("ab") as log:
            self.process = subprocess.Popen(argv, cwd=REPO, env=self.env, stdout=log, stderr=log)
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() - began > START_S:
                self.stop_process()
                self._stack.close()
                raise RuntimeError((self.folder / "dashboard.log").read_text("utf-8"))
            time.sleep(0.02)
        self.started_in_s = time.monotonic() - began

    def stop_process(self) -> None:
        """End the dashboard as the supervisor does."""
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(timeout=5)

    def __exit__(self, *_: object) -> None:
        self.stop_process()
        self._stack.close()

    def post(self, topic: str, data: dict[str, Any]) -> None:
        """Deliver one event as Dapr does; raises AssertionError when it is not taken."""
        event = {
            "specversion": "1.0",
            "type": "com.dapr.event.sent",
            "id": str(time.monotonic_ns()),
            "source": "stage",
            "topic": topic,
            "pubsubname": "events",
            "datacontenttype": "application/json",
            "data": data,
        }
        headers = {"dapr-api-token": TOKEN, "content-type": "application/cloudevents+json"}
        answer = self.sidecar.post(f"/events/{topic}", json=event, headers=headers)
        if answer.status_code != 200 or answer.json() != {"status": "SUCCESS"}:
            raise AssertionError(f"{topic}: {answer.status_code} {answer.text}")

    def _answers(self) -> bool:
        try:
            return self.sidecar.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def _supervisor(self, path: str) -> tuple[int, dict[str, Any]]:
        now = time.time()
        if path == "/apps/inference":
            states = list(self.replicas.values())
            rows = [
                {"instance": name, "state": state, "cpu_utilisation": 0.35 + 0.12 * i, "since": now}
                for i, (name, state) in enumerate(self.replicas.items())
            ]
            counts = {state: states.count(state) for state in ("ready", "starting", "draining")}
            return 200, {
                "app": "inference",
                "wanted": len(states) - states.count("draining"),
                "start_delay_s": 1.8,
                "quota_cores": 0.1,
                "limit": "cgroup",
                "min": 1,
                "max": 4,
                "replicas": rows,
                **counts,
            }
        if path != "/status":
            return 404, {"detail": "not here"}
        named = [(app, app) for app in APPS] + [("inference", name) for name in self.replicas]
        processes = [_process(name, None, "infra", 14.2, now) for name in ("redis", "sentry", "jaeger")]
        for app, name in named:
            state = self.replicas.get(name, "ready")
            processes.append(_process(name, app, "app", 41.5, now, state))
            processes.append(_process(f"{name}.sidecar", app, "sidecar", 31.8, now, state))
        identities = [
            {
                "app_id": app,
                "instance": name,
                "spiffe_id": f"spiffe://public/ns/default/{app}",
                "not_after": self.certificates_end + 17 * i,
                "mtls": self.mtls,
            }
            for i, (app, name) in enumerate(named)
        ]
        return 200, {
            "mesh": "mesh-8700",
            "trust_domain": "foremesh.local",
            "mtls": self.mtls,
            "gateway_url": "http://127.0.0.1:8700",
            "processes": processes,
            "identities": identities,
            "hops": {"mtls": 48210, "plaintext": 0},
        }

    def _jaeger(self, path: str) -> tuple[int, dict[str, Any]]:
        recorded = RECORDED["traces"].values()
        copies = {one["traceID"]: one for one in (self._recent(raw, i) for i in range(6) for raw in recorded)}
        if not path.startswith("/api/traces/"):
            return 200, {"data": list(copies.values()), "errors": None}
        found = copies.get(path.removeprefix("/api/traces/"))
        if found is None:
            return 404, {"data": None, "errors": [{"code": 404, "msg": "trace not found"}]}
        return 200, {"data": [found], "errors": None}

    def _recent(self, trace: dict[str, Any], copy: int) -> dict[str, Any]:
        """A recorded trace as if it had just happened; copies have ids of their own and other lengths."""
        began = min(span["startTime"] for span in trace["spans"])
        shift = int((self._recorded_at - 20 - 9 * copy) * 1e6) - began
        scale = 1 + 0.17 * copy * (1 if copy % 2 else -0.4)
        text = json.dumps(trace)
        for trace_id in RECORDED["traces"] if copy or self.traffic else ():
            text = text.replace(trace_id, f"{self.traffic % 16:x}{copy:x}{trace_id[2:]}")
        moved: dict[str, Any] = json.loads(text)
        for span in moved["spans"]:
            span["startTime"] = began + shift + int((span["startTime"] - began) * scale)
            span["duration"] = int(span["duration"] * scale)
            span["operationName"] += self.markup
        return moved


def _process(
    name: str, app: str | None, kind: str, pss_mb: float, now: float, state: str = "ready"
) -> dict[str, Any]:
    return {
        "name": name,
        "app_id": app,
        "kind": kind,
        "pid": 4242,
        "state": state,
        "restarts": 0,
        "uptime_s": round(now % 3600, 1),
        "ready_s": 0.8,
        "pss_mb": pss_mb,
        "cpu_s": 3.2,
        "port": 41000,
    }
