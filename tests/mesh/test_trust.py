"""Each promise of trust beside its negative twin."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import stat
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from deploy.local.identities import answers_plaintext, observe
from deploy.local.ports import Ports
from deploy.local.trust import spiffe_id
from tests.mesh.harness import RunningMesh, until

APPS = ("gateway", "routing", "tokenization", "inference", "predictor", "autoscaler", "dashboard")


def call(port: int, path: str, headers: dict[str, str], body: object = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(
            "POST", path, json.dumps(body or {}), {"content-type": "application/json", **headers}
        )
        reply = connection.getresponse()
        return reply.status, reply.read().decode(errors="replace")
    finally:
        connection.close()


def through_sidecar(
    mesh: RunningMesh, caller: str, target: str, method: str, body: object
) -> tuple[int, str]:
    """Invoke `target` as `caller`: through the caller's own sidecar, with the caller's own API token."""
    environment = mesh.environment(caller)
    return call(
        int(environment["DAPR_HTTP_PORT"]),
        f"/v1.0/invoke/{target}/method{method}",
        {"dapr-api-token": environment["DAPR_API_TOKEN"]},
        body,
    )


@pytest.fixture(scope="module")
def inference_call(mesh: RunningMesh) -> dict[str, object]:
    return {"model": "intent", "tier": "tiny", "items": [{"ids": [2, 3, 4], "top_k": 1, "deadline_ms": 2000}]}


def test_every_sidecar_shows_the_identity_of_its_app_and_refuses_plaintext(mesh: RunningMesh) -> None:
    sidecars = [p for p in mesh.processes().values() if p["kind"] == "sidecar"]
    assert len(sidecars) == len(APPS)
    for sidecar in sidecars:
        seen = asyncio.run(observe(sidecar["port"]))
        assert seen.spiffe_id == spiffe_id(sidecar["app_id"])
        assert seen.mtls
        assert seen.not_after > time.time()
        assert not asyncio.run(answers_plaintext(sidecar["port"]))


def test_the_plaintext_probe_can_see_plaintext(tmp_path: Path) -> None:
    """The probe above would be worthless if it answered False to everything."""

    async def plaintext_server_is_seen() -> bool:
        async def settings(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(24)
            writer.write(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(settings, "127.0.0.1", 0)
        async with server:
            return await answers_plaintext(server.sockets[0].getsockname()[1])

    assert asyncio.run(plaintext_server_is_seen())


def test_the_policy_lets_routing_call_inference(mesh: RunningMesh, inference_call: dict[str, object]) -> None:
    status, text = through_sidecar(mesh, "routing", "inference", "/v1/infer", inference_call)
    assert status == 200, text


@pytest.mark.parametrize("caller", ["gateway", "tokenization", "predictor", "autoscaler", "dashboard"])
def test_a_caller_outside_the_policy_gets_403(
    mesh: RunningMesh, inference_call: dict[str, object], caller: str
) -> None:
    status, text = through_sidecar(mesh, caller, "inference", "/v1/infer", inference_call)
    assert status == 403, text
    assert "access control policy" in text


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("inference", "/metrics"),
        ("inference", "/v1/infer/../../metrics"),
        ("tokenization", "/"),
        ("routing", "/v1/intents"),
    ],
)
def test_an_operation_outside_the_policy_gets_403(mesh: RunningMesh, target: str, path: str) -> None:
    caller = "gateway" if target == "routing" else "routing"
    status, text = through_sidecar(mesh, caller, target, path, {})
    assert status == 403, text


def test_a_wrong_api_token_gets_401_from_the_sidecar(mesh: RunningMesh) -> None:
    port = int(mesh.environment("routing")["DAPR_HTTP_PORT"])
    path = "/v1.0/invoke/inference/method/v1/infer"
    assert call(port, path, {"dapr-api-token": "wrong"})[0] == 401
    assert call(port, path, {})[0] == 401
    # Another app's token is as wrong as any.
    assert call(port, path, {"dapr-api-token": mesh.environment("gateway")["DAPR_API_TOKEN"]})[0] == 401


@pytest.mark.parametrize(
    "app", ["routing", "tokenization", "inference-1", "predictor", "autoscaler", "dashboard", "gateway"]
)
def test_a_wrong_app_token_gets_401_from_the_app(mesh: RunningMesh, app: str) -> None:
    port = mesh.processes()[app]["port"]
    for headers in ({}, {"dapr-api-token": "wrong"}):
        status, text = call(port, "/v1/anything", headers)
        assert status == 401, text
        assert json.loads(text)["type"].endswith("/unauthorized")


def test_an_impostor_with_another_apps_join_token_gets_no_certificate(
    mesh: RunningMesh, tmp_path: Path
) -> None:
    """The same command line and environment as routing's sidecar, but tokenization's join token."""
    argv = mesh.command_line("routing.sidecar")
    environment = mesh.environment("routing.sidecar")
    ports = Ports(mesh.settings.port_base + 100)
    for flag in ("--dapr-http-port", "--dapr-grpc-port", "--dapr-internal-grpc-port", "--metrics-port"):
        argv[argv.index(flag) + 1] = str(ports.free())
    own = environment["DAPR_SENTRY_TOKEN_FILE"]
    stolen = own.replace("join-routing", "join-tokenization")
    assert Path(stolen).exists()
    assert stolen != own
    outcome = subprocess.run(
        argv,
        env=environment | {"DAPR_SENTRY_TOKEN_FILE": stolen},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    printed = outcome.stdout + outcome.stderr
    assert outcome.returncode != 0
    assert "PermissionDenied" in printed
    assert '\\"sub\\" not satisfied' in printed or '"sub" not satisfied' in printed
    # And without any token: none either.
    environment.pop("DAPR_SENTRY_TOKEN_FILE")
    outcome = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert outcome.returncode != 0


def test_every_listener_is_on_loopback(mesh: RunningMesh) -> None:
    pids = {p["pid"]: p["name"] for p in mesh.processes().values()} | {mesh.supervisor_pid: "supervisor"}
    listening = 0
    for pid, name in pids.items():
        for connection in psutil.Process(pid).net_connections("inet"):
            bound = connection.status == psutil.CONN_LISTEN or (
                connection.type == socket.SOCK_DGRAM and not connection.raddr
            )
            if bound:
                listening += 1
                assert connection.laddr.ip in ("127.0.0.1", "::1"), f"{name} listens on {connection.laddr}"
    assert listening >= len(pids) - 1


def secrets_of(mesh: RunningMesh) -> dict[str, str]:
    found = {
        "redis password": json.loads((mesh.settings.run_dir / "secrets/secrets.json").read_text())[
            "redis-password"
        ]
    }
    for name in ("routing", "inference-1", "gateway"):
        environment = mesh.environment(name)
        found[f"{name} dapr token"] = environment["DAPR_API_TOKEN"]
        found[f"{name} app token"] = environment["APP_API_TOKEN"]
    for token in (mesh.settings.run_dir / "secrets").glob("join-*.jwt"):
        found[token.name] = token.read_text()
    found["issuer key"] = (mesh.settings.run_dir / "secrets/issuer/issuer.key").read_text().splitlines()[1]
    return found


def test_secrets_are_neither_in_argv_nor_in_logs(mesh: RunningMesh) -> None:
    mesh.ask()
    secrets = secrets_of(mesh)
    lines = {name: " ".join(mesh.command_line(name)) for name in mesh.processes()}
    logs = {f.name: f.read_text(errors="replace") for f in (mesh.settings.run_dir / "logs").iterdir()}
    assert len(secrets) > 10
    for what, secret in secrets.items():
        for name, text in (lines | logs).items():
            assert secret not in text, f"{what} stands in {name}"


def test_secret_files_are_private(mesh: RunningMesh) -> None:
    files = [
        Path(folder) / f for folder, _, names in os.walk(mesh.settings.run_dir / "secrets") for f in names
    ]
    assert len(files) >= len(APPS) + 5
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert stat.S_IMODE(mesh.settings.run_dir.stat().st_mode) == 0o700
    # What the gateway keeps over a restart (FOREMESH_STATE).
    assert stat.S_IMODE((mesh.settings.run_dir / "gateway").stat().st_mode) == 0o700
    assert stat.S_IMODE(mesh.settings.control_socket.stat().st_mode) == 0o600


def test_redis_wants_its_password(mesh: RunningMesh) -> None:
    with socket.create_connection(("127.0.0.1", mesh.processes()["redis"]["port"]), 5) as s:
        s.sendall(b"KEYS *\r\n")
        assert b"NOAUTH" in s.recv(100)


def test_an_app_may_not_read_the_secret_store(mesh: RunningMesh) -> None:
    environment = mesh.environment("routing")
    connection = http.client.HTTPConnection("127.0.0.1", int(environment["DAPR_HTTP_PORT"]), timeout=5)
    connection.request(
        "GET",
        "/v1.0/secrets/secrets/redis-password",
        headers={"dapr-api-token": environment["DAPR_API_TOKEN"]},
    )
    assert connection.getresponse().status == 403


def test_an_app_outside_a_stores_scope_cannot_use_it(mesh: RunningMesh) -> None:
    environment = mesh.environment("gateway")
    status, text = call(
        int(environment["DAPR_HTTP_PORT"]),
        "/v1.0/state/sessions",
        {"dapr-api-token": environment["DAPR_API_TOKEN"]},
        [{"key": "x", "value": 1}],
    )
    assert status in (400, 403, 500), text
    assert "sessions" in text


def test_an_app_outside_a_topics_scope_cannot_publish(mesh: RunningMesh) -> None:
    environment = mesh.environment("gateway")
    token = {"dapr-api-token": environment["DAPR_API_TOKEN"]}
    port = int(environment["DAPR_HTTP_PORT"])
    assert call(port, "/v1.0/publish/events/decisions", token, {"wanted": 99})[0] == 403
    until(
        lambda: call(port, "/v1.0/publish/events/traffic", token, {"t": 1})[0] == 204,
        5,
        "the gateway may publish traffic",
    )
