"""`foremesh settings`: complete, true, and without a secret."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr

from deploy.local import tools
from deploy.local.ports import Ports
from deploy.local.settings import MeshSettings
from deploy.local.specs import APPS, Specs
from deploy.local.trust import Trust
from foremesh.settings import ASSIGNED, ROOMS
from services.common.settings import ServiceSettings


@pytest.fixture
def listed(foremesh: Any) -> list[dict[str, Any]]:
    done = foremesh("settings", "--json")
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def test_every_setting_is_there_once_in_its_room(listed: list[dict[str, Any]]) -> None:
    places = [(row["room"], row["variable"]) for row in listed]
    assert len(set(places)) == len(places)
    named = {row["variable"] for row in listed}
    assert {f"FOREMESH_{field}".upper() for field in MeshSettings.model_fields} <= named
    common = {f for f in ServiceSettings.model_fields if f not in ASSIGNED}
    assert {f"FOREMESH_{field}".upper() for field in common} <= named
    assert {row["room"] for row in listed} == {*ROOMS, "gateway"}


def test_every_setting_says_what_it_does(listed: list[dict[str, Any]]) -> None:
    assert [row["variable"] for row in listed if len(row["what"]) < 8] == []
    assert all(row["variable"].startswith("FOREMESH_") for row in listed)


def test_nothing_secret_is_listed(listed: list[dict[str, Any]], foremesh: Any) -> None:
    secret = {
        f"FOREMESH_{name}".upper()
        for name, field in ServiceSettings.model_fields.items()
        if field.annotation is SecretStr
    }
    assert secret, "this test would check nothing"
    assert not secret & {row["variable"] for row in listed}
    shown = foremesh("settings", "--json", DAPR_API_TOKEN="hush-hush", APP_API_TOKEN="hush-hush").stdout
    assert "hush-hush" not in shown


def test_what_is_set_here_is_shown(foremesh: Any) -> None:
    rows = json.loads(foremesh("settings", "--json", FOREMESH_QUEUE_ITEMS="64").stdout)
    here = {(row["room"], row["here"]) for row in rows if row["variable"] == "FOREMESH_QUEUE_ITEMS"}
    assert ("inference", "64") in here


def test_the_gateway_tells_its_own(listed: list[dict[str, Any]]) -> None:
    variables = {row["variable"]: row["default"] for row in listed if row["room"] == "gateway"}
    assert variables["FOREMESH_MAX_BODY_BYTES"] == "65536"
    # What the mesh decides for it would set nothing.
    assert not {"FOREMESH_PORT", "FOREMESH_TRACE_RATIO", "DAPR_HTTP_PORT", "FOREMESH_ROUTES"} & set(variables)


def test_what_is_listed_for_a_service_reaches_it(
    listed: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that the supervisor overwrites would be a setting that sets nothing."""
    mine = [row for row in listed if row["room"] in (*APPS, "services")]
    assert mine
    for row in mine:
        monkeypatch.setenv(row["variable"], "mine")

    async def check() -> None:
        chosen = MeshSettings(port_base=45_000, state_dir=tmp_path, wiring="direct")
        trust = Trust(tmp_path / "secrets")
        async with aiohttp.ClientSession() as http:
            specs = Specs(chosen, trust, Ports(chosen.port_base), http)
            for row in mine:
                app = "routing" if row["room"] == "services" else row["room"]
                assert specs.app(app, app).env[row["variable"]] == "mine", row

    monkeypatch.setattr(tools, "built", lambda tool: Path("/bin/true"))
    asyncio.run(check())


def test_people_get_a_table(foremesh: Any) -> None:
    done = foremesh("settings")
    assert done.returncode == 0
    assert "FOREMESH_PORT_BASE" in done.stdout
