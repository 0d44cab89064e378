"""Settings of a mesh: a wrong one is refused by name, and two meshes share nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from deploy.local.settings import MeshSettings
from services.autoscaler.policies import policy_from


@pytest.mark.parametrize(
    "wrong",
    [
        {"port_base": 80},
        {"port_base": 65_001},
        {"cert_ttl": "1 hour"},
        {"cert_ttl": "60"},
        {"cert_ttl": "-1h"},
        {"replicas": 0},
        {"max_replicas": 17},
        {"replica_cpu": 0},
        {"cpu_limit": "nice"},
        {"policy": "guess"},
        {"policy": "static:"},
        {"policy": "hpa; rm"},
        {"capacity_rps": 0},
        {"step_s": -1},
        {"trace_ratio": 1.1},
        {"log_mb": 0},
        {"wiring": "half"},
    ],
    ids=str,
)
def test_a_wrong_value_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as raised:
        MeshSettings(**wrong)
    assert [error["loc"][0] for error in raised.value.errors()] == list(wrong)


@pytest.mark.parametrize(
    "wrong", [{"replicas": 5}, {"min_replicas": 2}, {"min_replicas": 4, "max_replicas": 3, "replicas": 3}]
)
def test_replicas_lie_within_their_bounds(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="replicas"):
        MeshSettings(**wrong)
    assert MeshSettings(min_replicas=2, replicas=2, max_replicas=2).replicas == 2


@pytest.mark.parametrize(
    "policy", ["predictive", "hpa", "kpa", "keda", "persistence", "trend", "static:1", "static:12"]
)
def test_every_policy_that_is_let_through_is_one(policy: str) -> None:
    assert MeshSettings(policy=policy).policy == policy
    policy_from(policy)


def test_the_environment_sets_them_and_flags_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREMESH_MAX_REPLICAS", "7")
    monkeypatch.setenv("FOREMESH_POLICY", "hpa")
    settings = MeshSettings(policy="kpa")
    assert (settings.max_replicas, settings.policy) == (7, "kpa")


def test_they_cannot_change_afterwards() -> None:
    with pytest.raises(ValidationError):
        setattr(MeshSettings(), "replicas", 3)  # noqa: B010 (a plain assignment would be refused by mypy)


def test_every_setting_says_what_it_is() -> None:
    assert [name for name, field in MeshSettings.model_fields.items() if not field.description] == []


def test_two_meshes_share_no_folder_and_no_port(tmp_path: Path) -> None:
    one, other = (MeshSettings(port_base=base, state_dir=tmp_path) for base in (8700, 8900))
    assert one.run_dir != other.run_dir
    assert one.control_socket != other.control_socket
    urls = {url for m in (one, other) for url in (m.gateway_url, m.dashboard_url, m.jaeger_url)}
    assert len(urls) == 6
    assert all(url.startswith("http://127.0.0.1:") for url in urls)


def test_a_socket_s_path_is_never_too_long(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    one, other = (MeshSettings(port_base=base, state_dir=deep).control_socket for base in (8700, 8900))
    assert max(len(str(one)), len(str(other))) <= 100
    assert one != other
    assert MeshSettings(port_base=8700, state_dir=deep).control_socket == one, "others must find it again"
