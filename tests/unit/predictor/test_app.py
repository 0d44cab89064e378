import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr

from services.common.logs import logger
from services.predictor.app import build
from services.predictor.settings import Settings
from tests.unit.predictor.conftest import Sidecar

SCHEMA = Path(__file__).parents[3] / "services" / "contracts" / "forecasts.schema.json"
TOKEN = {"dapr-api-token": "for the app"}
Scenario = Callable[[httpx.AsyncClient], Awaitable[None]]


def play(sidecar: Sidecar, scenario: Scenario, **settings: Any) -> None:
    """Run the real app against the sidecar for as long as the scenario takes."""

    async def run() -> None:
        made = Settings(
            dapr_http_port=sidecar.port,
            dapr_api_token=SecretStr("for the sidecar"),
            app_api_token=SecretStr("for the app"),
            **{"step_s": 1, "forecast_every_s": 0.2, "history_save_s": 1, **settings},
        )
        app = build(made)
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://app", headers=TOKEN) as client:
                await scenario(client)

    asyncio.run(run())


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


def traffic(t: float, arrivals: float = 20, instance: str = "gateway") -> dict[str, Any]:
    data: dict[str, Any] = {"t": t, "arrivals": arrivals, "answered": arrivals, "shed": 0, "failed": 0}
    data |= {"in_flight": 1, "p50_ms": 4.0, "p95_ms": None, "p99_ms": None, "instance": instance}
    return {
        "specversion": "1.0",
        "id": "1",
        "source": "gateway",
        "type": "t",
        "topic": "traffic",
        "data": data,
    }


async def hear(client: httpx.AsyncClient, seconds: int, arrivals: float = 20, **event: Any) -> None:
    now = int(time.time())
    for back in range(seconds - 1, -1, -1):
        answer = await client.post("/events/traffic", json=traffic(now - back, arrivals, **event))
        assert answer.json() == {"status": "SUCCESS"}


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_traffic_becomes_forecasts_and_state(sidecar: Sidecar) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        none_yet = await client.get("/v1/forecast")
        assert none_yet.status_code == 503
        assert none_yet.json()["type"].endswith("/unavailable")
        assert "retry-after" in none_yet.headers
        await hear(client, 11)
        await until(lambda: len(sidecar.published) >= 2 and "forecast.latest" in sidecar.state)
        topic, event = sidecar.published[-1]
        assert topic == "forecasts"
        assert event["level_rps"] == 20
        assert event["horizons_s"] == [1, 2, 3, 5, 10]
        assert (await client.get("/v1/forecast")).json()["quantiles"] == event["quantiles"]
        if SCHEMA.exists():
            jsonschema.validate(event, json.loads(SCHEMA.read_text()))
        await until(lambda: "history" in sidecar.state)
        assert sidecar.tokens == {"for the sidecar"}
        metrics = (await client.get("/metrics")).text
        for gauge in ("predictor_coverage_q95", "predictor_mae_ratio", "predictor_silent 0.0"):
            assert gauge in metrics

    play(sidecar, scenario)


def test_every_path_but_health_and_metrics_needs_the_token(sidecar: Sidecar) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        del client.headers["dapr-api-token"]
        for method, path in (("GET", "/v1/forecast"), ("POST", "/events/traffic")):
            answer = await client.request(method, path, json=traffic(time.time()))
            assert answer.status_code == 401
            assert answer.headers["content-type"] == "application/problem+json"
        for path in ("/healthz", "/readyz", "/metrics"):
            assert (await client.get(path)).status_code == 200

    play(sidecar, scenario)


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b"{}",
        b"[]",
        b'{"data": 7}',
        b'{"data": {}}',
        json.dumps(traffic(1.0) | {"data": {"t": "now", "arrivals": 1, "instance": "g"}}).encode(),
        json.dumps(traffic(1.0) | {"data": {"t": 1, "arrivals": -1, "instance": "g"}}).encode(),
        json.dumps(traffic(1.0) | {"data": {"t": 1, "arrivals": 1, "instance": ""}}).encode(),
        json.dumps(traffic(1.0) | {"data": {"t": 1e300, "arrivals": 1, "instance": "g"}}).encode(),
    ],
)
def test_what_is_no_traffic_report_is_dropped(body: bytes, sidecar: Sidecar) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        answer = await client.post("/events/traffic", content=body)
        assert answer.json() == {"status": "DROP"}
        assert (await client.get("/v1/forecast")).status_code == 503

    play(sidecar, scenario)


def test_redelivered_and_future_reports_count_for_nothing(sidecar: Sidecar) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        await hear(client, 3)
        duplicates = counted("predictor_reports_total", verdict="duplicate")
        future = counted("predictor_reports_total", verdict="future")
        await hear(client, 2, arrivals=9999)
        await client.post("/events/traffic", json=traffic(time.time() + 3600, 9999))
        assert counted("predictor_reports_total", verdict="duplicate") >= duplicates + 1
        assert counted("predictor_reports_total", verdict="future") == future + 1
        await until(lambda: "history" in sidecar.state)
        assert sidecar.state["history"]["arrivals"][:3] == [20, 20, 20]

    play(sidecar, scenario)


def test_silence_is_said_and_not_forecast(sidecar: Sidecar) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        await hear(client, 3)
        await until(lambda: bool(sidecar.published))
        assert counted("predictor_silent") == 0
        await until(lambda: counted("predictor_silent") == 1)
        sent = len(sidecar.published)
        await asyncio.sleep(0.7)
        assert len(sidecar.published) == sent
        await client.post("/events/traffic", json=traffic(time.time() + 1))
        await until(lambda: len(sidecar.published) > sent)
        assert counted("predictor_silent") == 0

    play(sidecar, scenario, silence_s=0.5)


def test_a_saved_history_comes_back_and_one_that_is_broken_does_no_harm(sidecar: Sidecar) -> None:
    now = int(time.time())
    sidecar.state["history"] = {"newest": now - 2, "arrivals": [30] * 100}

    async def resumed(client: httpx.AsyncClient) -> None:
        await client.post("/events/traffic", json=traffic(now, 30))
        await until(lambda: bool(sidecar.published) and sidecar.published[-1][1]["model"] == "lstm")
        assert sidecar.published[-1][1]["history_steps"] >= 100

    play(sidecar, resumed)
    sidecar.state["history"] = {"newest": "never"}
    sidecar.published.clear()

    async def afresh(client: httpx.AsyncClient) -> None:
        await hear(client, 3)
        await until(lambda: bool(sidecar.published))
        await until(lambda: isinstance(sidecar.state["history"]["newest"], int))

    play(sidecar, afresh)


def test_a_replay_starts_with_the_history_of_its_file_and_a_restart_goes_on(
    sidecar: Sidecar, tmp_path: Path
) -> None:
    file = tmp_path / "history.csv"
    file.write_text("timestamp,requests\n" + "".join(f"{second},50\n" for second in range(100)))
    now = int(time.time())
    sidecar.state["history"] = {"newest": now - 5, "arrivals": [9000] * 500}  # of a calibration, say

    async def replayed(client: httpx.AsyncClient) -> None:
        await asyncio.sleep(0.3)
        for offset, arrivals in enumerate((0, 0, 50)):
            await client.post("/events/traffic", json=traffic(now + offset, arrivals))
        await until(lambda: len(sidecar.state["history"]["arrivals"]) == 101)
        assert sidecar.state["history"]["arrivals"] == [50] * 101
        await until(lambda: bool(sidecar.published) and sidecar.published[-1][1]["model"] == "lstm")
        assert 40 < sidecar.published[-1][1]["rates_rps"][0][2] < 60

    play(sidecar, replayed, history_file=file)

    async def restarted(client: httpx.AsyncClient) -> None:
        await asyncio.sleep(0.3)
        await client.post("/events/traffic", json=traffic(now + 3, 60))
        await until(lambda: sidecar.state["history"]["arrivals"][-1] == 60)
        assert len(sidecar.state["history"]["arrivals"]) == 102

    play(sidecar, restarted, history_file=file)


@pytest.mark.parametrize("text", [None, "", "timestamp,requests\n", "timestamp,requests\n0,1\n0.5,1\n", "\0"])
def test_a_history_file_that_is_not_there_or_not_usable_does_no_harm(
    text: str | None, sidecar: Sidecar, tmp_path: Path
) -> None:
    file = tmp_path / "history.csv"
    if text is not None:
        file.write_text(text)

    async def scenario(client: httpx.AsyncClient) -> None:
        await hear(client, 3)
        await until(lambda: bool(sidecar.published))

    play(sidecar, scenario, history_file=file)


def test_a_sidecar_that_is_away_is_waited_for_and_no_old_history_is_overwritten(sidecar: Sidecar) -> None:
    now = int(time.time())
    sidecar.state["history"] = {"newest": now - 1, "arrivals": [30] * 100}
    sidecar.broken = True

    async def scenario(client: httpx.AsyncClient) -> None:
        await hear(client, 1, arrivals=30)
        await asyncio.sleep(1.2)
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.get("/v1/forecast")).status_code == 200
        assert counted("predictor_failures_total", what="publish") > 0
        sidecar.broken = False
        await until(lambda: len(sidecar.published) >= 1 and sidecar.published[-1][1]["history_steps"] >= 100)

    play(sidecar, scenario)
    assert len(sidecar.state["history"]["arrivals"]) >= 100


def test_the_memory_of_seasons_is_saved_and_comes_back_and_a_broken_one_does_no_harm(
    sidecar: Sidecar,
) -> None:
    async def first(client: httpx.AsyncClient) -> None:
        await hear(client, 30)
        await until(lambda: bool(sidecar.published))

    play(sidecar, first, history_save_s=600)
    saved = sidecar.state["seasons"]
    assert saved["step_s"] == 1
    assert len(saved["fine"]) >= 30
    older = [50.0] * 3000
    sidecar.state["seasons"] = saved | {"fine": older + saved["fine"]}

    async def second(client: httpx.AsyncClient) -> None:
        await hear(client, 2)
        await until(lambda: bool(sidecar.published))

    sidecar.published.clear()
    play(sidecar, second, history_save_s=600)
    assert len(sidecar.state["seasons"]["fine"]) > 3000
    sidecar.state["seasons"] = {"fine": "many"}
    sidecar.published.clear()
    play(sidecar, second, history_save_s=600)
    assert len(sidecar.state["seasons"]["fine"]) < 3000


def test_a_change_of_leader_is_said_and_counted(sidecar: Sidecar, caplog: pytest.LogCaptureFixture) -> None:
    before = counted("predictor_demotions_total", model="persistence")
    now = int(time.time())
    sidecar.state["history"] = {"newest": now - 1, "arrivals": [30] * 8}  # too young for the network

    async def scenario(client: httpx.AsyncClient) -> None:
        await asyncio.sleep(0.3)
        await client.post("/events/traffic", json=traffic(now, 30))
        await until(lambda: bool(sidecar.published) and sidecar.published[-1][1]["model"] == "persistence")
        assert counted("predictor_demotions_total", model="persistence") == before
        for ahead in range(1, 5):
            await client.post("/events/traffic", json=traffic(now + ahead, 30))
        await until(lambda: sidecar.published[-1][1]["model"] == "lstm")

    logger("foremesh.predictor").addHandler(caplog.handler)
    try:
        play(sidecar, scenario, silence_s=30)
    finally:
        logger("foremesh.predictor").removeHandler(caplog.handler)
    assert counted("predictor_demotions_total", model="persistence") == before + 1
    assert counted("predictor_leads", model="lstm") == 1
    assert any("persistence is demoted, lstm leads" in record.message for record in caplog.records)


def test_a_last_save_is_made_on_the_way_out(sidecar: Sidecar) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        await hear(client, 5)
        await asyncio.sleep(0.3)

    play(sidecar, scenario, history_save_s=600)
    assert sidecar.state["history"]["arrivals"][-1] == 20


@pytest.mark.parametrize(
    "wrong", [{"step_s": 0}, {"step_s": 60, "history_s": 100}, {"forecast_every_s": 0.0}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"step_s|forecast_every_s"):
        Settings(**wrong)


def test_every_setting_says_what_it_is() -> None:
    assert all(field.description for field in Settings.model_fields.values())
    assert Settings().pace_s == 2.0
    assert Settings(step_s=1).pace_s == 1.0


def test_whole_seconds_may_be_written_with_a_point(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREMESH_STEP_S", "60.0")
    assert Settings().step_s == 60
