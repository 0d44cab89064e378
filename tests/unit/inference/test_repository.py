"""The models a replica holds: loaded when asked for, replaced when they change, let go for room or idleness."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from services.common.catalog import Card, CatalogError
from services.common.problems import Problem
from services.inference import repository as module
from services.inference.batching import Batcher
from services.inference.model import Model, Query
from services.inference.repository import Held, Repository
from tests.unit.common.catalog import write_card, write_entry, write_model
from tests.unit.routing.processes import ROOT, Service

TEST_S = 30.0
KEYS = [("intent", "tiny"), ("intent", "mini"), ("intent", "base"), ("other", "tiny")]


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    for model, tier in KEYS:
        write_entry(tmp_path / "catalog", model, tier)
    return tmp_path / "catalog"


def make(card: Card) -> Held:
    model = Model(card, max_batch=4)
    return Held(model, Batcher(model.run, max_batch=4, queue_items=64))


def hold(
    catalog: Path, test: Callable[[Repository], Awaitable[None]], make: module.Make = make, **limits: Any
) -> None:
    """Run `test` with a repository that pins intent.tiny and looks at everything every 10 ms."""

    async def main() -> None:
        made = Repository(catalog, make, pinned=["intent.tiny"], **limits)
        made.preload()
        made.start()
        watching = asyncio.create_task(made.watch(0.01))
        try:
            async with asyncio.timeout(TEST_S):
                await test(made)
        finally:
            watching.cancel()
            await made.close()

    asyncio.run(main())


async def ask(repository: Repository, key: str) -> tuple[str, str]:
    """(version that answered, its intent)"""
    held = await repository.take(key)
    try:
        (outcome,) = await held.batcher.submit([Query([5, 6, 7], 1)], [10.0])
    finally:
        repository.leave(held)
    assert outcome.status == 200 and outcome.intent is not None
    return held.card.version, outcome.intent


async def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + TEST_S
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


def test_a_model_is_loaded_once_however_many_ask_for_it_first(catalog: Path) -> None:
    loads: list[str] = []

    def counted(card: Card) -> Held:
        loads.append(card.key)
        return make(card)

    async def test(repository: Repository) -> None:
        assert list(repository.held) == ["intent.tiny"]
        answers = await asyncio.gather(*(ask(repository, "intent.base") for _ in range(20)))
        assert len(set(answers)) == 1
        assert loads == ["intent.tiny", "intent.base"]

    hold(catalog, test, counted)


def test_others_are_answered_while_one_is_loaded(catalog: Path) -> None:
    may_go_on = threading.Event()

    def slow(card: Card) -> Held:
        if card.tier == "base":
            assert may_go_on.wait(TEST_S)
        return make(card)

    async def test(repository: Repository) -> None:
        loading = asyncio.create_task(repository.take("intent.base"))
        await asyncio.sleep(0)
        await ask(repository, "intent.tiny")
        assert not loading.done()
        may_go_on.set()
        repository.leave(await loading)

    hold(catalog, test, slow)


def test_what_is_not_there_is_named_with_what_is(catalog: Path) -> None:
    async def test(repository: Repository) -> None:
        with pytest.raises(Problem) as caught:
            await repository.take("intent.huge")
        assert (caught.value.status, caught.value.slug) == (404, "unknown-model")
        assert caught.value.ext["known"] == sorted(f"{model}.{tier}" for model, tier in KEYS)

    hold(catalog, test)


def test_a_tampered_model_is_refused_and_its_neighbours_are_not(catalog: Path) -> None:
    loads: list[str] = []

    def counted(card: Card) -> Held:
        loads.append(card.key)
        return make(card)

    write_model(catalog / "intent/mini/model.onnx", seed=9)
    (catalog / "intent/base/card.json").write_text("{")

    async def test(repository: Repository) -> None:
        for _ in range(2):
            with pytest.raises(
                Problem, match=r"mini/model\.onnx is not the file its card describes"
            ) as caught:
                await repository.take("intent.mini")
            assert (caught.value.status, caught.value.slug) == (503, "model-unusable")
        assert loads.count("intent.mini") == 1, (
            "a file that is not the card's is read once, not for every call"
        )
        with pytest.raises(Problem, match=r"base/card\.json is not a model card"):
            await repository.take("intent.base")
        await ask(repository, "other.tiny")
        # What was repaired is used without a restart.
        write_model(catalog / "intent/mini/model.onnx")
        write_card(catalog / "intent/mini", tier="mini", version="2")
        await until(lambda: "intent.mini" not in repository.broken)
        assert (await ask(repository, "intent.mini"))[0] == "2"

    hold(catalog, test, counted)


def test_an_entry_under_a_strangers_name_is_refused(catalog: Path) -> None:
    shutil.copytree(catalog / "intent/tiny", catalog / "intent/copy")

    async def test(repository: Repository) -> None:
        with pytest.raises(Problem, match=r"names intent\.tiny, but lies where intent\.copy belongs"):
            await repository.take("intent.copy")

    hold(catalog, test)


def test_a_new_version_takes_over_and_the_old_one_ends_its_calls_first(catalog: Path) -> None:
    async def test(repository: Repository) -> None:
        old = await repository.take("intent.tiny")
        before = await ask(repository, "intent.tiny")
        write_model(catalog / "intent/tiny/model.onnx", seed=3)
        write_card(catalog / "intent/tiny", version="2")
        await until(lambda: repository.held["intent.tiny"].card.version == "2")
        after = await ask(repository, "intent.tiny")
        assert (before[0], after[0]) == ("1", "2")
        assert old.retired
        (outcome,) = await old.batcher.submit([Query([5, 6, 7], 1)], [10.0])
        assert outcome.intent == before[1], "a call that began with the old one is answered by it"
        repository.leave(old)
        await until(lambda: not old.batcher.alive)

    hold(catalog, test)


def test_a_broken_new_version_leaves_the_old_one(catalog: Path) -> None:
    async def test(repository: Repository) -> None:
        write_card(
            catalog / "intent/tiny", version="2", sha256={"model.onnx": "0" * 64, "tokenizer.json": "0" * 64}
        )
        await until(lambda: "intent.tiny" in repository.broken)
        assert (await ask(repository, "intent.tiny"))[0] == "1"
        assert repository.ready

    hold(catalog, test)


def test_entries_that_use_the_same_weights_share_a_session(catalog: Path) -> None:
    (catalog / "third/tiny").mkdir(parents=True)
    card = json.loads((catalog / "intent/tiny/card.json").read_text()) | {
        "model": "third",
        "weights": "intent/tiny",
    }
    (catalog / "third/tiny/card.json").write_text(json.dumps(card))

    async def test(repository: Repository) -> None:
        assert await ask(repository, "third.tiny") == await ask(repository, "intent.tiny")
        held = repository.held
        assert held["third.tiny"].model._session is held["intent.tiny"].model._session
        assert await repository.unload("third.tiny")
        await ask(repository, "intent.tiny")

    hold(catalog, test)


def test_an_entry_that_is_gone_is_let_go(catalog: Path) -> None:
    async def test(repository: Repository) -> None:
        await ask(repository, "intent.mini")
        shutil.rmtree(catalog / "intent/mini")
        await until(lambda: "intent.mini" not in repository.held)
        with pytest.raises(Problem, match="not in the catalog"):
            await repository.take("intent.mini")

    hold(catalog, test)


def test_idle_models_go_and_pinned_and_busy_ones_stay(catalog: Path) -> None:
    async def test(repository: Repository) -> None:
        busy = await repository.take("intent.base")
        await ask(repository, "intent.mini")
        await until(lambda: "intent.mini" not in repository.held)
        assert set(repository.held) == {"intent.tiny", "intent.base"}
        repository.leave(busy)
        await until(lambda: set(repository.held) == {"intent.tiny"})
        await ask(repository, "intent.mini")  # and come back

    hold(catalog, test, idle_s=0.05)


def test_a_caller_that_goes_leaves_its_load_to_the_others(catalog: Path) -> None:
    gate, loads = threading.Event(), []

    def slow(card: Card) -> Held:
        loads.append(card.key)
        if card.tier != "tiny":
            gate.wait(TEST_S)
        return make(card)

    async def test(repository: Repository) -> None:
        goes, stays = (asyncio.ensure_future(repository.take("intent.mini")) for _ in range(2))
        other = asyncio.ensure_future(repository.take("intent.base"))
        await until(lambda: "intent.mini" in loads)
        goes.cancel()
        with pytest.raises(asyncio.CancelledError):
            await goes
        assert loads == ["intent.tiny", "intent.mini"]  # one at a time, still
        gate.set()
        for held in (await stays, await other):
            assert held.busy == 1 and held.batcher.alive
            repository.leave(held)
        assert loads == ["intent.tiny", "intent.mini", "intent.base"]
        assert not repository.held["intent.mini"].busy

    hold(catalog, test, slow)


class Memory:
    """Memory that only models take, 10 MB each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.models = 0
        monkeypatch.setattr(module, "resident_mb", lambda: self.resident_mb)
        forget = module._forget

        def forgotten(held: Held) -> None:
            forget(held)
            self.models -= 1

        monkeypatch.setattr(module, "_forget", forgotten)

    @property
    def resident_mb(self) -> float:
        return 50.0 + 10.0 * self.models

    def make(self, card: Card) -> Held:
        held = make(card)
        self.models += 1
        return held


def test_the_ceiling_is_held_by_letting_go_what_was_used_longest_ago(
    catalog: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory(monkeypatch)

    async def test(repository: Repository) -> None:
        await ask(repository, "intent.mini")
        await ask(repository, "intent.base")
        await ask(repository, "intent.mini")
        await ask(repository, "other.tiny")
        await ask(repository, "other.tiny")
        assert set(repository.held) == {"intent.tiny", "intent.mini", "other.tiny"}
        assert memory.resident_mb <= 80

    hold(catalog, test, memory.make, memory_mb=80)


def test_where_nothing_can_go_a_model_is_refused_and_the_rest_answers(
    catalog: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory(monkeypatch)

    async def test(repository: Repository) -> None:
        busy = await repository.take("intent.mini")
        with pytest.raises(
            Problem, match=r"FOREMESH_MEMORY_MB=70 beside intent\.tiny 10 MB, intent\.mini 10 MB"
        ) as caught:
            await repository.take("intent.base")
        assert (caught.value.status, caught.value.slug) == (503, "no-room")
        assert caught.value.retry_after_s
        await ask(repository, "intent.tiny")
        assert memory.resident_mb <= 70
        repository.leave(busy)
        await ask(repository, "intent.base")

    hold(catalog, test, memory.make, memory_mb=70)


def test_what_is_pinned_must_fit(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(monkeypatch)
    with pytest.raises(
        CatalogError, match=r"FOREMESH_MEMORY_MB=55 is less than the 60 MB .* intent\.tiny alone"
    ):
        Repository(catalog, memory.make, pinned=["intent.tiny"], memory_mb=55).preload()


def test_a_pinned_model_cannot_be_unloaded(catalog: Path) -> None:
    async def test(repository: Repository) -> None:
        await ask(repository, "intent.mini")
        assert await repository.unload("intent.mini")
        assert not await repository.unload("intent.mini")
        with pytest.raises(Problem) as caught:
            await repository.unload("intent.tiny")
        assert caught.value.slug == "model-pinned"

    hold(catalog, test)


def test_ten_replacements_under_load_drop_no_request_and_keep_no_memory(tmp_path: Path) -> None:
    catalog = tmp_path / "catalog"
    shutil.copytree(ROOT / "models/catalog/intent/mini", catalog / "intent/mini")
    card = json.loads((catalog / "intent/mini/card.json").read_text())
    service = Service(
        "inference", tmp_path,
        {"FOREMESH_CATALOG": str(catalog), "FOREMESH_TIER": "mini", "FOREMESH_CATALOG_EVERY_S": "0.1"},
    )  # fmt: skip
    answered: list[str] = []
    failed: list[Any] = []
    over = threading.Event()

    def call() -> str:
        body = {
            "model": "intent",
            "tier": "mini",
            "items": [{"ids": list(range(5, 16)), "deadline_ms": 5000}] * 4,
        }
        status, reply = service.ask("POST", "/v1/infer", body)
        if status != 200 or any(item["status"] != 200 for item in reply["items"]):
            failed.append((status, reply))
            return ""
        answered.append(reply["version"])
        return str(reply["version"])

    def load() -> None:
        while not over.is_set():
            call()

    def rewrite(version: str) -> None:
        (catalog / "intent/mini/new.json").write_text(json.dumps(card | {"version": version}))
        (catalog / "intent/mini/new.json").replace(catalog / "intent/mini/card.json")
        deadline = time.monotonic() + 30
        while call() != version:
            assert time.monotonic() < deadline, f"version {version} never answered"

    def resident_mb() -> float:
        status = Path(f"/proc/{service.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024 / 1e6

    try:
        service.wait_ready()
        threads = [threading.Thread(target=load) for _ in range(2)]
        for thread in threads:
            thread.start()
        rewrite("first")
        before = resident_mb()
        for number in range(10):
            rewrite(f"again-{number}")
        deadline = time.monotonic() + 10
        while resident_mb() > before * 1.05 and time.monotonic() < deadline:
            time.sleep(0.1)
        after = resident_mb()
        over.set()
        for thread in threads:
            thread.join(10)
        assert failed == []
        assert len(set(answered)) >= 11
        assert after <= before * 1.05, f"{before:.1f} MB before, {after:.1f} MB after ten replacements"
    finally:
        over.set()
        service.stop()
