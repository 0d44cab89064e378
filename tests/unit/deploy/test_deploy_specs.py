"""Command lines and environments: what a process is told, and what it must not learn."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from deploy.local import tools
from deploy.local.ports import Ports
from deploy.local.process import ProcessSpec
from deploy.local.settings import MeshSettings
from deploy.local.specs import APPS, Specs
from deploy.local.trust import Trust


@pytest.fixture
def with_specs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs a function with the specs of a mesh that is prepared and not started."""

    # Its command lines do not depend on what the binaries hold.
    def nowhere(tool: tools.GoTool) -> Path:
        return Path("/bin") / tool.name

    monkeypatch.setattr(tools, "built", nowhere)
    monkeypatch.setattr(tools, "redis_server", lambda: Path("/bin/redis-server"))

    def run(use: Callable[[Specs], Any], **given: Any) -> Any:
        async def main() -> Any:
            settings = MeshSettings(port_base=45_000, state_dir=tmp_path, **given)
            settings.run_dir.mkdir(parents=True)
            trust = Trust(settings.run_dir / "secrets")
            trust.prepare()
            trust.issuer_dir.mkdir()
            (trust.issuer_dir / "ca.crt").write_text("-----BEGIN CERTIFICATE-----")
            async with aiohttp.ClientSession() as http:
                return use(Specs(settings, trust, Ports(settings.port_base), http))

        return asyncio.run(main())

    return run


def everything(specs: Specs) -> dict[str, ProcessSpec]:
    apps = {app: specs.app(app, app) for app in APPS}
    sidecars = {f"{app}.sidecar": specs.sidecar(app, app) for app in APPS}
    return {"redis": specs.redis(), "sentry": specs.sentry(), "jaeger": specs.jaeger()} | apps | sidecars


def test_no_secret_is_in_a_command_line(with_specs: Any) -> None:
    def use(specs: Specs) -> None:
        specs_of = everything(specs)
        hidden = {specs.trust.redis_password}
        for app in APPS:
            hidden |= set(specs.trust.api_tokens(app))
        for name, spec in specs_of.items():
            line = " ".join(spec.argv)
            assert not [secret for secret in hidden if secret in line], name
            assert "-----BEGIN" not in line, name

    with_specs(use)


def test_the_caller_s_own_secrets_are_not_handed_on(with_specs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("PYTHONPATH", "/tmp/evil")  # noqa: S108
    monkeypatch.setenv("LD_PRELOAD", "/tmp/evil.so")  # noqa: S108

    def use(specs: Specs) -> None:
        for name, spec in everything(specs).items():
            assert not {"AWS_SECRET_ACCESS_KEY", "PYTHONPATH", "LD_PRELOAD"} & set(spec.env), name

    with_specs(use)


def test_each_app_has_tokens_of_its_own_and_shares_them_with_its_sidecar_only(with_specs: Any) -> None:
    def use(specs: Specs) -> None:
        of = everything(specs)
        for app in APPS:
            for name in ("DAPR_API_TOKEN", "APP_API_TOKEN"):
                assert of[app].env[name] == of[f"{app}.sidecar"].env[name]
        for one, other in itertools.combinations(APPS, 2):
            assert of[one].env["DAPR_API_TOKEN"] != of[other].env["DAPR_API_TOKEN"]
        for name in ("redis", "sentry", "jaeger"):
            assert not {"DAPR_API_TOKEN", "APP_API_TOKEN"} & set(of[name].env)
        files = {of[f"{app}.sidecar"].env["DAPR_SENTRY_TOKEN_FILE"] for app in APPS}
        assert len(files) == len(APPS)

    with_specs(use)


def test_every_port_is_somebody_s_own(with_specs: Any) -> None:
    def use(specs: Specs) -> None:
        ports = [spec.port for spec in everything(specs).values()]
        assert len(set(ports)) == len(ports)
        inner = [port for where in specs.endpoints.values() for port in where.values()]
        assert len(set(inner)) == len(inner)

    with_specs(use)


def test_each_start_has_fresh_ports(with_specs: Any) -> None:
    def use(specs: Specs) -> None:
        first, second = (specs.app("routing", "routing").env for _ in range(2))
        assert first["FOREMESH_PORT"] != second["FOREMESH_PORT"]
        assert first["DAPR_HTTP_PORT"] != second["DAPR_HTTP_PORT"]
        sidecar = specs.sidecar("routing", "routing")
        assert sidecar.argv[sidecar.argv.index("--app-port") + 1] == second["FOREMESH_PORT"]

    with_specs(use)


def test_every_address_in_a_command_line_is_on_loopback(with_specs: Any) -> None:
    def use(specs: Specs) -> None:
        for name, spec in everything(specs).items():
            assert not [word for word in spec.argv if "0.0.0.0" in word or "[::]" in word], name
        sidecar = specs.sidecar("routing", "routing").argv
        flags = [word for word in sidecar if word.endswith(("listen-addresses", "listen-address"))]
        assert len(flags) == 3
        assert all(sidecar[sidecar.index(flag) + 1] == "127.0.0.1" for flag in flags)

    with_specs(use)


def test_a_sidecar_enforces_its_app_s_policy(with_specs: Any) -> None:
    def use(specs: Specs) -> None:
        for app in APPS:
            argv = specs.sidecar(app, app).argv if specs.app(app, app) else ()
            assert "--enable-mtls" in argv
            assert any(word.endswith(f"components/access/{app}.yaml") for word in argv)
            (policy,) = (word for word in argv if word.endswith(f"access/{app}.yaml"))
            assert Path(policy).exists()

    with_specs(use)


def test_plaintext_is_said_aloud(with_specs: Any) -> None:
    def use(specs: Specs) -> None:
        specs.app("routing", "routing")
        sidecar = specs.sidecar("routing", "routing")
        assert "--enable-mtls" not in sidecar.argv
        assert "DAPR_TRUST_ANCHORS" not in sidecar.env

    with_specs(use, wiring="plaintext")


def test_without_sidecars_apps_are_told_each_other_s_addresses(with_specs: Any) -> None:
    def use(specs: Specs) -> None:
        told = [json.loads(specs.app(app, app).env["FOREMESH_DIRECT"]) for app in APPS]
        assert all(addresses == told[0] for addresses in told)
        assert set(told[0]) == set(APPS)
        assert specs.app("routing", "routing").env["FOREMESH_PORT"] == told[0]["routing"].rsplit(":", 1)[1]

    with_specs(use, wiring="direct")


@pytest.mark.parametrize(("cores", "asked", "threads"), [(1, 0, "1"), (2, 0, "1"), (8, 0, "4"), (8, 3, "3")])
def test_a_sidecar_leaves_half_of_the_cores_to_the_apps(
    with_specs: Any, monkeypatch: pytest.MonkeyPatch, cores: int, asked: int, threads: str
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: cores)

    def use(specs: Specs) -> None:
        assert specs.app("routing", "routing")
        assert specs.sidecar("routing", "routing").env["GOMAXPROCS"] == threads

    with_specs(use, sidecar_procs=asked)
