"""Tokenization, inference and routing as real processes: an answer end to end, its trace, start and end."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.unit.common.catalog import LABELS, TAGS, write_card, write_entry, write_tokenizer
from tests.unit.common.client import validate
from tests.unit.routing.collector import Collector
from tests.unit.routing.processes import ROOT, Service, request_path

READY_S = 2.0


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[dict[str, Service]]:
    catalog = tmp_path_factory.mktemp("catalog")
    write_entry(catalog)
    write_entry(catalog, model="command", tags=TAGS, task="command")
    with request_path(
        catalog, tmp_path_factory.mktemp("logs"), FOREMESH_OTLP_ENDPOINT=collector.endpoint
    ) as services:
        yield services


def test_a_service_is_ready_after_little_work(tmp_path: Path) -> None:
    write_entry(tmp_path / "catalog")
    for app in ("tokenization", "inference", "routing"):
        service = Service(app, tmp_path, {"FOREMESH_CATALOG": str(tmp_path / "catalog")})
        try:
            seconds = service.wait_ready()
            used = psutil.Process(service.process.pid).cpu_times()
            # Work, not time: a machine that is busy with other tests must not fail this one.
            assert used.user + used.system < READY_S, f"{app}: {used}, ready after {seconds:.2f} s"
        finally:
            service.stop()


def test_an_answer_end_to_end(path: dict[str, Service]) -> None:
    status, answer = path["routing"].ask("POST", "/v1/intents", {"text": "turn on the light"})
    assert status == 200
    validate("intents-response", answer)
    assert answer["intent"] in LABELS and answer["degraded"] is False
    assert answer["replica"] == "inference"
    again = path["routing"].ask("POST", "/v1/intents", {"text": "Turn  on the LIGHT"})[1]
    assert (again["intent"], again["score"]) == (answer["intent"], pytest.approx(answer["score"], abs=1e-5))


def test_a_model_that_marks_slots_tells_where_they_are_in_the_text_that_was_sent(
    path: dict[str, Service],
) -> None:
    text = "  play w1 W2, w1\u00a0on the  Light "
    status, answer = path["routing"].ask("POST", "/v1/intents", {"text": text, "model": "command"})
    assert status == 200, answer
    validate("intents-response", answer)
    assert answer["slots"] == [
        {"type": "number", "value": "w1 W2", "start": 7, "end": 12},
        {"type": "number", "value": "w1", "start": 14, "end": 16},
        {"type": "device", "value": "Light", "start": 25, "end": 30},
    ]
    assert all(text[slot["start"] : slot["end"]] == slot["value"] for slot in answer["slots"])
    nothing = path["routing"].ask("POST", "/v1/intents", {"text": "play music", "model": "command"})[1]
    assert nothing["slots"] == []
    other = path["routing"].ask("POST", "/v1/intents", {"text": "turn on the light"})[1]
    assert "slots" not in other, "a model that marks none says nothing of them"


def test_slots_of_many_at_once_are_those_of_each(path: dict[str, Service]) -> None:
    texts = [f"{'on ' * (number % 7)}light w1{' w2' * (number % 3)}" for number in range(60)]

    def ask(text: str) -> list[str]:
        status, answer = path["routing"].ask("POST", "/v1/intents", {"text": text, "model": "command"})
        assert status == 200, answer
        return [slot["value"] for slot in answer["slots"]]

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(ask, texts))
    assert found == [["light", f"w1{' w2' * (number % 3)}"] for number in range(60)]


def test_concurrent_answers_are_those_given_alone(path: dict[str, Service]) -> None:
    texts = [f"w{n} w{(7 * n) % 100} light" for n in range(80)]

    def ask(text: str) -> str:
        status, answer = path["routing"].ask("POST", "/v1/intents", {"text": text})
        assert status == 200, answer
        return str(answer["intent"])

    alone = [ask(text) for text in texts]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(ask, texts * 5)) == alone * 5
    assert len(set(alone)) > 5


@pytest.mark.parametrize("app", ["tokenization", "inference", "routing"])
def test_a_wrong_token_is_a_401(path: dict[str, Service], app: str) -> None:
    for token in ("", "wrong"):
        for method, where in (("POST", "/v1/intents"), ("POST", "/v1/infer"), ("GET", "/v1/models")):
            status, document = path[app].ask(method, where, {}, {"dapr-api-token": token})
            assert status == 401
            validate("problem", document)


def test_a_sampled_request_is_one_trace_through_the_three_services(
    path: dict[str, Service], collector: Collector
) -> None:
    traces = [f"{n:032x}" for n in (0xA1, 0xA2, 0xA3)]
    del collector.spans[:]
    path["routing"].ask(
        "POST",
        "/internal/intents",
        {
            "items": [
                {"body": '{"text":"play"}', "deadline_ms": 5000},
                *(
                    {
                        "body": '{"text":"play music"}',
                        "deadline_ms": 5000,
                        "traceparent": f"00-{trace}-{'b' * 16}-01",
                    }
                    for trace in traces
                ),
                {"body": '{"text":"on"}', "deadline_ms": 5000, "traceparent": f"00-{'d' * 32}-{'b' * 16}-00"},
            ]
        },
    )
    spans = collector.wait(12)
    tree = sorted((span["service"], span["name"]) for span in spans if span["trace"] == traces[0])
    assert tree == [
        ("inference", "infer"),
        ("inference", "run"),
        ("routing", "call inference"),
        ("routing", "call tokenization"),
        ("routing", "intents"),
        ("tokenization", "tokenize"),
    ]
    for trace in traces[1:]:
        names = sorted(span["name"] for span in spans if span["trace"] == trace)
        assert names == ["call inference", "call tokenization", "intents"]
        assert [span["links"] for span in spans if span["trace"] == trace and span["name"] != "intents"] == [
            [traces[0]],
            [traces[0]],
        ]
    assert len(spans) == 12
    by_name = {span["name"]: span for span in spans if span["trace"] == traces[0]}
    for child, parent in (
        ("run", "infer"),
        ("infer", "call inference"),
        ("tokenize", "call tokenization"),
        ("call inference", "intents"),
        ("call tokenization", "intents"),
    ):
        assert by_name[child]["parent"] == by_name[parent]["id"]
    assert by_name["intents"]["parent"] == "b" * 16
    for name in ("run", "infer", "tokenize", "call inference", "call tokenization"):
        about = by_name[name]["attributes"]
        assert (about["batch.size"], about["model"], about["tier"]) == (5, "intent", "tiny")
        assert about["replica"]


def test_a_request_that_is_not_sampled_makes_no_span(path: dict[str, Service], collector: Collector) -> None:
    del collector.spans[:]
    path["routing"].ask(
        "POST", "/v1/intents", {"text": "play"}, {"traceparent": f"00-{'e' * 32}-{'b' * 16}-00"}
    )
    path["routing"].ask("POST", "/v1/intents", {"text": "play"})
    time.sleep(1.5)
    assert collector.spans == []


def test_health_and_metrics_are_open(path: dict[str, Service]) -> None:
    for service in path.values():
        for where in ("/healthz", "/readyz"):
            assert service.ask("GET", where, headers={"dapr-api-token": ""})[0] == 200


def test_a_replica_that_is_gone_is_a_cached_answer_or_a_503_and_comes_back(tmp_path: Path) -> None:
    write_entry(tmp_path / "catalog")
    with request_path(tmp_path / "catalog", tmp_path) as services:
        routing, inference = services["routing"], services["inference"]
        assert routing.ask("POST", "/v1/intents", {"text": "play"})[1]["degraded"] is False
        inference.process.send_signal(signal.SIGKILL)
        inference.process.wait(5)
        status, answer = routing.ask("POST", "/v1/intents", {"text": "play"})
        assert (status, answer["degraded"]) == (200, True)
        status, document = routing.ask("POST", "/v1/intents", {"text": "music"})
        assert status == 503
        validate("problem", document)
        environment = {"FOREMESH_CATALOG": str(tmp_path / "catalog"), "FOREMESH_PORT": str(inference.port)}
        back = services["inference"] = Service("inference", tmp_path, environment)
        back.port = inference.port
        back.wait_ready()
        assert routing.ask("POST", "/v1/intents", {"text": "music"})[1]["degraded"] is False


def test_the_catalogs_model_is_as_accurate_through_the_path_as_its_card_says(tmp_path: Path) -> None:
    card = ROOT / "models" / "catalog" / "intent" / "tiny" / "card.json"
    data = ROOT.parent / "shared" / "data" / "intents" / "hwu64" / "test.tsv"
    for needed in (card, data):
        if not needed.exists():
            pytest.skip(f"{needed} is not there")
    rows = [line.split("\t") for line in data.read_text(encoding="utf-8").splitlines()[1:]]
    right = 0
    with request_path(card.parents[2], tmp_path) as services:
        for at in range(0, len(rows), 50):
            part = rows[at : at + 50]
            items = [{"body": json.dumps({"text": text}), "deadline_ms": 10_000} for text, _ in part]
            status, answer = services["routing"].ask("POST", "/internal/intents", {"items": items})
            assert status == 200
            assert {outcome["status"] for outcome in answer["items"]} == {200}
            right += sum(
                outcome["body"]["intent"] == intent
                for outcome, (_, intent) in zip(answer["items"], part, strict=True)
            )
    expected = json.loads(card.read_text())["accuracy"]["test"]
    assert right / len(rows) == pytest.approx(expected, abs=0.003)


def test_sigterm_answers_what_is_in_flight_and_ends_with_0(tmp_path: Path) -> None:
    write_entry(tmp_path / "catalog")
    with request_path(tmp_path / "catalog", tmp_path) as services:
        routing = services["routing"]
        statuses: list[int] = []
        stopping = threading.Event()

        def load() -> None:
            while not stopping.is_set():
                try:
                    statuses.append(routing.ask("POST", "/v1/intents", {"text": "play music"})[0])
                except ConnectionError:
                    return

        threads = [threading.Thread(target=load) for _ in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        start = time.perf_counter()
        code = routing.stop()
        took = time.perf_counter() - start
        stopping.set()
        for thread in threads:
            thread.join(10)
        assert (code, set(statuses)) == (0, {200})
        assert took < 5
        for app in ("tokenization", "inference"):
            assert services[app].stop() == 0
        assert [service.log.read_text() for service in services.values()] == ["", "", ""]


def test_a_changed_model_ends_the_start_with_a_reason(tmp_path: Path) -> None:
    folder = write_entry(tmp_path / "catalog")
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"x")
    service = Service("inference", tmp_path, {"FOREMESH_CATALOG": str(tmp_path / "catalog")})
    assert service.process.wait(20) == 1
    said = service.log.read_text()
    card = json.loads((folder / "card.json").read_text())
    assert said.startswith("services.inference cannot start: ")
    assert card["sha256"]["model.onnx"] in said and str(folder / "model.onnx") in said
    assert "Traceback" not in said


def test_a_wrong_setting_ends_the_start_naming_it_its_value_and_the_way_out(tmp_path: Path) -> None:
    service = Service("tokenization", tmp_path, {"FOREMESH_WATCH_S": "soon"})
    assert service.process.wait(20) == 1
    said = service.log.read_text()
    assert "FOREMESH_WATCH_S='soon': Input should be a valid number" in said
    assert "`foremesh settings`" in said and "Traceback" not in said


def test_a_new_tokenizer_never_feeds_an_old_model_nor_an_old_one_a_new(tmp_path: Path) -> None:
    """Whoever sees the new version first, words are cut again and the request is answered, by the new model."""
    catalog = tmp_path / "catalog"
    folder = write_entry(catalog)
    for first, second in (("inference", "tokenization"), ("tokenization", "inference")):
        write_card(folder, version="1")
        # One of them looks all the time, the other not in the time of a test.
        seconds = {
            "inference": {"FOREMESH_CATALOG_EVERY_S": "0.05" if first == "inference" else "600"},
            "tokenization": {"FOREMESH_WATCH_S": "0.05" if first == "tokenization" else "600"},
        }
        with request_path(catalog, tmp_path, **seconds["inference"], **seconds["tokenization"]) as services:
            body = {"text": "turn on the light"}
            assert services["routing"].ask("POST", "/v1/intents", body)[1]["version"] == "1"
            write_tokenizer(folder / "tokenizer.json", backwards=first == "inference")
            write_card(folder, version=f"{second} is late")
            deadline = time.monotonic() + 20
            while (found := services["routing"].ask("POST", "/v1/intents", body))[1]["version"] == "1":
                assert time.monotonic() < deadline
                assert found[0] == 200
            assert (found[0], found[1]["version"]) == (200, f"{second} is late")
            assert found[1]["degraded"] is False
