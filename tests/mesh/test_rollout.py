"""Weights of the gateway out of configuration stores: a real store, a real sidecar, the gateway's own binary."""

from __future__ import annotations

import base64
import contextlib
import http.client
import http.server
import json
import os
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from deploy.local import tools
from deploy.local.settings import REPO
from deploy.local.trust import write_secret
from tests.mesh.harness import LEASH, free_port_base, until

PASSWORD = "of-the-store"
ROUTES = """
apiVersion: foremesh.dev/v1alpha1
kind: AddressBook
metadata: {{ name: site }}
spec:
  services:
    - {{ name: answers-v1, port: 80, addresses: [ "127.0.0.1:{v1}" ] }}
    - {{ name: answers-v2, port: 80, addresses: [ "127.0.0.1:{v2}" ] }}
---
apiVersion: foremesh.dev/v1alpha1
kind: Rollout
metadata: {{ name: answers }}
spec:
  variants: [ {{ name: answers-v1, weight: 1 }}, {{ name: answers-v2, weight: 0 }} ]
  configuration: {{ store: releases, key: answers }}
  # Both answer out of one process of this busy machine: how fast says nothing of either.
  guard: {{ stable: answers-v1, canary: answers-v2, sample: 50, coolDown: 2s, latencyFactor: 100 }}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{ name: answers }}
spec:
  rules:
    - filters: [ {{ type: ExtensionRef, extensionRef: {{ group: foremesh.dev, kind: Rollout, name: answers }} }} ]
      backendRefs: [ {{ name: answers-v1, port: 80 }}, {{ name: answers-v2, port: 80 }} ]
"""


class Variant(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet: the second of two would wait for the receipt of the first

    failing = -1  # the port whose answers are errors

    def do_GET(self) -> None:
        port = self.connection.getsockname()[1]
        name = str(port).encode()
        self.send_response(500 if port == Variant.failing else 200)
        self.send_header("Content-Length", str(len(name)))
        self.end_headers()
        self.wfile.write(name)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@dataclass
class Site:
    """Processes of one gateway on free ports; each ends with the test run, however that ends."""

    folder: Path
    base: int = field(default_factory=free_port_base)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def port(self, name: str) -> int:
        return self.base + [
            "public",
            "private",
            "dapr",
            "grpc",
            "internal",
            "metrics",
            "store",
            "peer",
        ].index(name)

    def start(self, name: str, *argv: str, **env: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            kept = {k: os.environ[k] for k in ("PATH", "HOME") if k in os.environ}
            self.running[name] = subprocess.Popen(
                [*LEASH, *argv], env=kept | env, stdout=log, stderr=log, cwd=self.folder
            )

    def kill(self, name: str) -> None:
        process = self.running.pop(name)
        process.kill()
        process.wait(10)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def ask(self, port: int, method: str, path: str, **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
            reply = connection.getresponse()
            return reply.status, reply.read().decode()
        except OSError:
            return 0, ""
        finally:
            connection.close()

    def sidecar(self, component: Path, app_id: str = "gateway") -> None:
        blocks = self.folder / "blocks"
        blocks.mkdir(exist_ok=True)
        for file in (component, REPO / "components/blocks/secrets.yaml"):
            shutil.copy(file, blocks)
        write_secret(self.folder / "secrets.json", json.dumps({"redis-password": PASSWORD}))
        self.start(
            "sidecar", str(tools.built(tools.SIDECAR)), "--app-id", app_id, "--app-port", str(self.port("private")),
            "--dapr-listen-addresses", "127.0.0.1", "--dapr-http-port", str(self.port("dapr")),
            "--dapr-grpc-port", str(self.port("grpc")), "--dapr-internal-grpc-port", str(self.port("internal")),
            "--dapr-internal-grpc-listen-address", "127.0.0.1", "--metrics-port", str(self.port("metrics")),
            "--metrics-listen-address", "127.0.0.1", "--resources-path", str(blocks), "--log-level", "warn",
            NAMESPACE="default", DAPR_HOST_IP="127.0.0.1", DAPR_API_TOKEN="to-sidecar", APP_API_TOKEN="from-sidecar",
            FOREMESH_SECRETS_FILE=str(self.folder / "secrets.json"),
            FOREMESH_REDIS_HOST=f"127.0.0.1:{self.port('store')}",
            FOREMESH_CONSUL_ENDPOINTS=f"http://127.0.0.1:{self.port('store')}",
            FOREMESH_ETCD_ENDPOINTS=f"http://127.0.0.1:{self.port('store')}",
        )  # fmt: skip

    def gateway(self, v1: int, v2: int, interval: str) -> None:
        routes = self.folder / "routes"
        routes.mkdir(exist_ok=True)
        (routes / "a.yaml").write_text(ROUTES.format(v1=v1, v2=v2))
        self.start(
            "gateway", str(tools.built(tools.GATEWAY)), FOREMESH_PUBLIC_PORT=str(self.port("public")),
            FOREMESH_PORT=str(self.port("private")), FOREMESH_ROUTES=str(routes), DAPR_HTTP_PORT=str(self.port("dapr")),
            DAPR_API_TOKEN="to-sidecar", APP_API_TOKEN="from-sidecar", FOREMESH_STORES_INTERVAL=interval,
        )  # fmt: skip
        until(lambda: self.ask(self.port("private"), "GET", "/readyz")[0] == 200, 10, "the gateway is ready")

    def status(self) -> dict[str, Any]:
        code, text = self.ask(self.port("private"), "GET", "/status", dapr_api_token="from-sidecar")
        assert code == 200, text
        status: dict[str, Any] = json.loads(text)
        return status

    def rollout(self) -> dict[str, Any]:
        found: dict[str, Any] = self.status()["rollouts"][0]
        return found

    def subscribed(self) -> bool:
        state = self.status()["configurations"][0]
        return bool(state["subscribed"] and not state["trouble"])

    def shares(self, requests: int = 200) -> Counter[str]:
        """How many of so many requests each port answered."""
        counts: Counter[str] = Counter()
        connection = http.client.HTTPConnection("127.0.0.1", self.port("public"), timeout=5)
        for _ in range(requests):
            connection.request("GET", "/")
            reply = connection.getresponse()
            assert reply.status == 200
            counts[reply.read().decode()] += 1
        connection.close()
        return counts


@contextlib.contextmanager
def site(folder: Path) -> Iterator[Site]:
    here = Site(folder)
    try:
        yield here
    finally:
        for name in list(here.running):
            here.kill(name)


@pytest.fixture(scope="module")
def variants() -> Iterator[tuple[int, int]]:
    servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), Variant) for _ in range(2)]
    threads = [threading.Thread(target=s.serve_forever) for s in servers]
    for thread in threads:
        thread.start()
    yield servers[0].server_port, servers[1].server_port
    for server, thread in zip(servers, threads, strict=True):
        server.shutdown()
        thread.join()
        server.server_close()


def weights(v1: int, v2: int) -> str:
    return json.dumps({"weights": {"answers-v1": v1, "answers-v2": v2}})


@dataclass
class Redis:
    """A configuration store in the database of `components/blocks/configuration-releases.yaml`."""

    site: Site
    component = REPO / "components/blocks/configuration-releases.yaml"
    # Redis tells nobody of what changed while it could not be reached: a look finds it.
    interval_after_kill = "3s"

    def start(self) -> None:
        config = self.site.folder / "redis.conf"
        write_secret(
            config,
            f"bind 127.0.0.1\nport {self.site.port('store')}\nrequirepass {PASSWORD}\ndir {self.site.folder}\n"
            'appendonly yes\nsave ""\nrename-command CONFIG ""\nnotify-keyspace-events Kg$xe\n',
        )
        self.site.start("store", str(tools.redis_server()), str(config))
        until(lambda: "NOAUTH" in self.cli("", "PING") or "PONG" in self.cli("", "PING"), 10, "Redis answers")

    def cli(self, stdin: str, *command: str) -> str:
        client = tools.redis_server().with_name("redis-cli")
        return subprocess.run(
            [client, "-p", str(self.site.port("store")), "-n", "1", *(["-x"] if stdin else []), *command],
            input=stdin.encode(), capture_output=True, timeout=10, check=False, env={"REDISCLI_AUTH": PASSWORD},
        ).stdout.decode()  # fmt: skip

    def put(self, value: str) -> None:
        assert "OK" in self.cli(value, "SET", "answers")

    def delete(self) -> None:
        self.cli("", "DEL", "answers")


@dataclass
class Etcd:
    """The store of `components/other/releases-etcd.yaml`, on a real etcd."""

    site: Site
    component = REPO / "components/other/releases-etcd.yaml"
    interval_after_kill = "1h"

    def start(self) -> None:
        server = shutil.which("etcd")
        if server is None:
            assert "FOREMESH_GATE" not in os.environ, "etcd is not on PATH, and this run must have it"
            pytest.skip("etcd is not on PATH: apt-get install etcd-server")
        client, peer = (f"http://127.0.0.1:{self.site.port(p)}" for p in ("store", "peer"))
        self.site.start(
            "store", server, "--data-dir", str(self.site.folder / "etcd"), "--name", "one",
            "--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer,
            "--initial-advertise-peer-urls", peer, "--initial-cluster", f"one={peer}",
        )  # fmt: skip
        until(lambda: self.call("range", key="-") == 200, 20, "etcd answers")

    def call(self, what: str, **fields: str) -> int:
        coded = {k: base64.b64encode(v.encode()).decode() for k, v in fields.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.site.port("store"), timeout=5)
        try:
            connection.request("POST", f"/v3/kv/{what}", json.dumps(coded))
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()

    def put(self, value: str) -> None:
        assert self.call("put", key="/foremesh/answers", value=value) == 200

    def delete(self) -> None:
        assert self.call("deleterange", key="/foremesh/answers") == 200


@dataclass
class Consul:
    """The store of `components/other/releases-consul.yaml`, on a real Consul; Debian packages none."""

    site: Site
    component = REPO / "components/other/releases-consul.yaml"
    interval_after_kill = "1h"

    def start(self) -> None:
        server = shutil.which("consul")
        if server is None:
            pytest.skip("consul is not on PATH")
        ports = {"dns": -1, "grpc": -1, "grpc_tls": -1, "serf_wan": -1, "http": self.site.port("store")}
        ports |= {"server": self.site.port("peer"), "serf_lan": self.site.port("peer") + 1}
        config = self.site.folder / "consul.json"
        config.write_text(
            json.dumps(
                {
                    "server": True,
                    "bootstrap_expect": 1,
                    "bind_addr": "127.0.0.1",
                    "client_addr": "127.0.0.1",
                    "ports": ports,
                    "data_dir": str(self.site.folder / "consul"),
                    "disable_update_check": True,
                    "connect": {"enabled": False},
                    "performance": {"raft_multiplier": 1},
                }
            )
        )
        self.site.start("store", server, "agent", "-config-file", str(config))
        until(lambda: self.call("PUT", "elsewhere", "x") == 200, 20, "Consul answers")

    def call(self, method: str, key: str, value: str = "") -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.site.port("store"), timeout=5)
        try:
            connection.request(method, f"/v1/kv/{key}", value)
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()

    def put(self, value: str) -> None:
        assert self.call("PUT", "foremesh/answers", value) == 200

    def delete(self) -> None:
        assert self.call("DELETE", "foremesh/answers") == 200


STORES = [Redis, Etcd, Consul]


def effective_within(here: Site, v1: int, v2: int, seconds: float, what: str) -> None:
    want = {"answers-v1": v1, "answers-v2": v2}
    until(lambda: here.rollout()["weights"] == want, seconds, f"{what}: {here.status()}")


@pytest.mark.parametrize("kind", STORES)
def test_a_change_counts_within_a_second(
    tmp_path: Path, variants: tuple[int, int], record_property: Any, kind: type[Redis | Etcd | Consul]
) -> None:
    first, second = map(str, variants)
    with site(tmp_path) as here:
        store = kind(here)
        store.start()
        here.gateway(*variants, interval="1h")  # no look finds what is not told
        assert here.shares(50) == {first: 50}  # the sidecar is away: the weights of the file
        here.sidecar(store.component)
        until(here.subscribed, 20, "the gateway has subscribed")
        slowest = 0.0
        for v1, v2 in [(50, 50), (95, 5), (0, 1), (1, 0), (30, 70)] * 3:
            began = time.monotonic()
            store.put(weights(v1, v2))
            effective_within(here, v1, v2, 1.0, f"{v1}:{v2}")
            slowest = max(slowest, time.monotonic() - began)
        record_property("slowest_change_s", round(slowest, 3))
        print(f"{kind.__name__}: slowest of 15 changes: {slowest * 1000:.0f} ms")
        counts = here.shares(500)
        assert abs(counts[second] - 350) <= 3 * (500 * 0.7 * 0.3) ** 0.5, counts

        store.put('{"weights": {"answers-v3": 1}}')
        until(lambda: "answers-v3" in here.rollout()["refused"], 1, "a bad value is refused")
        assert here.rollout()["weights"] == {"answers-v1": 30, "answers-v2": 70}
        _, metrics = here.ask(here.port("private"), "GET", "/metrics")
        assert 'gateway_rollout_refused{rollout="answers"} 1' in metrics
        assert 'gateway_rollout_weight{rollout="answers",variant="answers-v2"} 70' in metrics
        store.put(weights(1, 1))
        effective_within(here, 1, 1, 1.0, "after a bad value")
        store.delete()
        effective_within(here, 1, 0, 1.0, "a key that is gone leaves the weights of the file")


@pytest.mark.parametrize("kind", STORES)
def test_a_new_sidecar_and_a_new_store_are_asked_again(
    tmp_path: Path, variants: tuple[int, int], kind: type[Redis | Etcd | Consul]
) -> None:
    with site(tmp_path) as here:
        store = kind(here)
        store.start()
        here.gateway(*variants, interval=kind.interval_after_kill)
        here.sidecar(store.component)
        until(here.subscribed, 20, "the gateway has subscribed")
        store.put(weights(60, 40))
        effective_within(here, 60, 40, 1.0, "a change")

        here.kill("sidecar")
        store.put(weights(10, 90))
        assert here.rollout()["weights"] == {"answers-v1": 60, "answers-v2": 40}  # what was said last holds
        here.shares(50)
        here.sidecar(store.component)
        effective_within(here, 10, 90, 20.0, "a new sidecar is asked at once")
        until(here.subscribed, 20, "subscribed again")
        store.put(weights(20, 80))
        effective_within(here, 20, 80, 1.0, "a change after a new sidecar")

        here.kill("store")
        assert here.rollout()["weights"] == {"answers-v1": 20, "answers-v2": 80}
        store.start()
        store.put(weights(40, 60))
        # A client of a store waits between its attempts to reach it.
        effective_within(here, 40, 60, 10.0, "a change after the store was killed")


def test_a_push_is_the_sidecars_alone(tmp_path: Path, variants: tuple[int, int]) -> None:
    with site(tmp_path) as here:
        here.gateway(*variants, interval="1h")
        port = here.port("private")
        for path in ("/configuration/releases/answers", "/dapr/config"):
            method = "GET" if path == "/dapr/config" else "POST"
            assert here.ask(port, method, path)[0] == 401
            assert here.ask(port, method, path, dapr_api_token="guess")[0] == 401
            assert here.ask(port, method, path, dapr_api_token="from-sidecar")[0] == 200
            assert (
                here.ask(here.port("public"), method, path, dapr_api_token="from-sidecar")[1] != ""
            )  # a route's
        assert here.rollout()["weights"] == {"answers-v1": 1, "answers-v2": 0}


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize("app_id", ["gateway", "routing"])
def test_the_store_is_the_gateways_alone(
    tmp_path: Path, variants: tuple[int, int], app_id: str, kind: type[Redis | Etcd | Consul]
) -> None:
    with site(tmp_path) as here:
        store = kind(here)
        store.start()
        store.put(weights(1, 1))
        here.gateway(*variants, interval="1h")
        here.sidecar(store.component, app_id)
        path = "/v1.0/configuration/releases?key=answers"

        def read() -> tuple[int, str]:
            return here.ask(here.port("dapr"), "GET", path, dapr_api_token="to-sidecar")

        until(lambda: read()[0] != 0, 20, "the sidecar answers")
        if app_id == "gateway":
            until(
                lambda: read()[0] == 200 and "answers-v2" in read()[1], 10, "the gateway's sidecar reads it"
            )
        else:
            status, text = read()
            assert status == 500 and "ERR_CONFIGURATION_STORE_NOT_CONFIGURED" in text, text
            assert here.rollout()["weights"] == {"answers-v1": 1, "answers-v2": 0}
        assert here.ask(here.port("dapr"), "GET", path)[0] == 401


def test_a_canary_that_fails_is_rolled_back(
    tmp_path: Path, variants: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = map(str, variants)
    with site(tmp_path) as here:
        store = Redis(here)
        store.start()
        here.gateway(*variants, interval="1h")
        here.sidecar(store.component)
        until(here.subscribed, 20, "the gateway has subscribed")
        store.put(weights(80, 20))
        effective_within(here, 80, 20, 1.0, "a canary")
        here.shares(600)
        assert here.rollout()["guard"]["rolledBack"] is False

        monkeypatch.setattr(Variant, "failing", variants[1])
        asked = [here.ask(here.port("public"), "GET", "/") for _ in range(1000)]
        guard = here.rollout()["guard"]
        assert guard["rolledBack"], guard
        assert "of the canary's" in guard["why"] and "limit of look" in guard["why"]
        assert here.rollout()["weights"] == {"answers-v1": 80, "answers-v2": 0}
        assert asked[-1] == (200, first)
        assert "a canary is rolled back" in here.log("gateway")
        print(f"{sum(status == 500 for status, _ in asked)} of 1,000 requests failed: {guard['why']}")

        monkeypatch.setattr(Variant, "failing", -1)
        store.put(weights(90, 10))  # its cool-down is over soon, and requests go on
        until(
            lambda: here.ask(here.port("public"), "GET", "/") == (200, second),
            10,
            "the canary is tried again",
        )
        assert here.rollout()["guard"]["rolledBack"] is False
