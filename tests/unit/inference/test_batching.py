"""The batcher: greedy, bounded, no mix-ups, deadlines, poisoned items, cancelled callers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from services.contracts.messages import InferOutcome
from services.inference.batching import Batcher
from services.inference.model import Query


class Runs:
    """A model that names each item after its ids, can be held in a run, and chokes on poison."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.go = threading.Event()
        self.go.set()
        self.seconds = 0.0
        self.poison = -1
        self.ran: list[int] = []
        self.threads: set[int] = set()

    def __call__(self, queries: Sequence[Query]) -> list[InferOutcome]:
        assert self.go.wait(10)
        self.threads.add(threading.get_ident())
        time.sleep(self.seconds)
        self.sizes.append(len(queries))
        self.ran += [query.ids[0] for query in queries]
        if any(query.ids[0] == self.poison for query in queries):
            raise ValueError("Gather: index out of bounds")
        return [InferOutcome(200, intent=str(query.ids[0])) for query in queries]


def run(test: Callable[[Runs, Batcher], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        runs = Runs()
        batcher = Batcher(runs, **{"max_batch": 32, "queue_items": 512, **options})
        batcher.start()
        try:
            async with asyncio.timeout(30):
                await test(runs, batcher)
        finally:
            runs.go.set()
            batcher.close()
        assert not batcher.alive

    asyncio.run(main())


async def ask(batcher: Batcher, *numbers: int, left_s: float = 10.0) -> list[InferOutcome]:
    return await batcher.submit([Query([n], 3) for n in numbers], [left_s] * len(numbers))


def test_ten_thousand_concurrent_items_each_get_their_own_answer() -> None:
    async def test(runs: Runs, batcher: Batcher) -> None:
        sizes = [1 + n % 7 for n in range(2500)]
        starts = [sum(sizes[:n]) for n in range(len(sizes))]
        asked = [ask(batcher, *range(start, start + size)) for start, size in zip(starts, sizes, strict=True)]
        answers = await asyncio.gather(*asked)
        assert sum(sizes) > 9990
        for start, size, answer in zip(starts, sizes, answers, strict=True):
            assert [outcome.intent for outcome in answer] == [str(n) for n in range(start, start + size)]
            assert all(outcome.status == 200 for outcome in answer)
        assert max(runs.sizes) == 32
        assert len(runs.sizes) < sum(sizes) / 16
        assert batcher.queued == 0

    run(test, queue_items=20_000)


def test_a_run_takes_what_is_queued_when_the_last_one_ends() -> None:
    async def test(runs: Runs, batcher: Batcher) -> None:
        runs.go.clear()
        first = asyncio.create_task(ask(batcher, 0))
        await asyncio.sleep(0.02)
        rest = [asyncio.create_task(ask(batcher, n)) for n in range(1, 41)]
        await asyncio.sleep(0.01)
        assert [batcher.queued] == [40]
        runs.go.set()
        await asyncio.gather(first, *rest)
        assert runs.sizes == [1, 32, 8]

    run(test)


def test_a_lone_item_does_not_wait_for_company() -> None:
    async def test(runs: Runs, batcher: Batcher) -> None:
        times = []
        for n in range(50):
            start = time.perf_counter()
            await ask(batcher, n)
            times.append(time.perf_counter() - start)
        assert runs.sizes == [1] * 50
        assert min(times) < 0.002  # a timer of 2 ms would show

    run(test)


def test_what_the_queue_has_no_room_for_is_shed_and_only_that() -> None:
    async def test(runs: Runs, batcher: Batcher) -> None:
        runs.go.clear()
        first = asyncio.create_task(ask(batcher, 0))
        await asyncio.sleep(0.02)
        many = asyncio.create_task(ask(batcher, *range(1, 7)))
        await asyncio.sleep(0.01)
        (shed,) = await ask(batcher, 99)
        assert (shed.status, shed.reason) == (503, "overloaded")
        assert shed.retry_after_s is not None and shed.retry_after_s > 0
        runs.go.set()
        assert [outcome.status for outcome in await many] == [200] * 4 + [503] * 2
        assert (await first)[0].status == 200
        assert 99 not in runs.ran and 5 not in runs.ran
        assert (await ask(batcher, 7))[0].intent == "7"

    run(test, queue_items=4)


def test_what_would_wait_too_long_is_shed_however_much_room_there_is() -> None:
    async def test(runs: Runs, batcher: Batcher) -> None:
        runs.seconds = 0.02
        for number in range(60):  # until it knows how long an item takes
            await ask(batcher, number)
        assert [outcome.status for outcome in await ask(batcher, *range(100, 120))] == [200] * 20, (
            "what waits behind nobody is taken as a whole"
        )
        runs.go.clear()
        waiting = [asyncio.create_task(ask(batcher, 200 + number)) for number in range(40)]
        await asyncio.sleep(0.05)
        runs.go.set()
        statuses = [(await one)[0].status for one in waiting]
        assert statuses.count(503) > 20 and statuses[:3] == [200, 200, 200]
        assert (await ask(batcher, 7))[0].status == 200, "and when the queue is short again, more is taken"

    run(test, max_batch=1, queue_s=0.15)


def test_an_item_whose_deadline_is_over_is_not_run() -> None:
    async def test(runs: Runs, batcher: Batcher) -> None:
        runs.go.clear()
        first = asyncio.create_task(ask(batcher, 0))
        await asyncio.sleep(0.02)
        late = asyncio.create_task(ask(batcher, 1, left_s=0.01))
        mixed = asyncio.create_task(batcher.submit([Query([2], 3), Query([3], 3)], [0.01, 10.0]))
        await asyncio.sleep(0.05)
        runs.go.set()
        assert [outcome.status for outcome in await late] == [504]
        assert [outcome.status for outcome in await mixed] == [504, 200]
        assert (await ask(batcher, 4, left_s=-1.0))[0].status == 504
        await first
        assert runs.ran == [0, 3]

    run(test)


def test_a_poisoned_item_fails_alone() -> None:
    async def test(runs: Runs, batcher: Batcher) -> None:
        runs.poison = 13
        runs.go.clear()
        first = asyncio.create_task(ask(batcher, 0))
        await asyncio.sleep(0.02)
        rest = [asyncio.create_task(ask(batcher, n)) for n in range(10, 20)]
        await asyncio.sleep(0.01)
        runs.go.set()
        outcomes = [(await task)[0] for task in rest]
        assert [outcome.status for outcome in outcomes] == [200] * 3 + [400] + [200] * 6
        assert [outcome.intent for outcome in outcomes if outcome.status == 200] == [
            str(n) for n in range(10, 20) if n != 13
        ]
        await first
        assert batcher.alive

    run(test)


def test_a_cancelled_caller_leaves_the_queue() -> None:
    async def test(runs: Runs, batcher: Batcher) -> None:
        runs.go.clear()
        first = asyncio.create_task(ask(batcher, 0))
        await asyncio.sleep(0.02)
        gone = asyncio.create_task(ask(batcher, 1, 2, 3))
        stays = asyncio.create_task(ask(batcher, 4))
        await asyncio.sleep(0.01)
        assert batcher.queued == 4
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert batcher.queued == 1
        runs.go.set()
        assert (await stays)[0].intent == "4"
        await first
        assert runs.ran == [0, 4]

    run(test, queue_items=4)


def test_times_in_queue_and_run_are_told_per_item() -> None:
    async def test(runs: Runs, batcher: Batcher) -> None:
        runs.seconds = 0.02
        first, second = await asyncio.gather(ask(batcher, 0), delayed(batcher))
        assert first[0].run_ms is not None and first[0].run_ms >= 20
        assert second[0].queue_ms is not None and 5 <= second[0].queue_ms < 500

    async def delayed(batcher: Batcher) -> list[InferOutcome]:
        await asyncio.sleep(0.005)
        return await ask(batcher, 1)

    run(test)


def test_runs_are_observed_for_the_callers_that_asked_for_it() -> None:
    seen: list[tuple[Any, int, int]] = []

    async def test(runs: Runs, batcher: Batcher) -> None:
        runs.go.clear()
        first = asyncio.create_task(ask(batcher, 0))
        await asyncio.sleep(0.02)
        noted = asyncio.create_task(batcher.submit([Query([1], 3), Query([2], 3)], [10, 10], "note"))
        plain = asyncio.create_task(ask(batcher, 3))
        await asyncio.sleep(0.01)
        runs.go.set()
        await asyncio.gather(first, noted, plain)

    def observe(note: Any, of_parcel: int, of_run: int, start_ns: int, end_ns: int) -> None:
        assert 0 < start_ns <= end_ns
        seen.append((note, of_parcel, of_run))

    run(test, observe=observe)
    assert seen == [("note", 2, 3)]


def test_a_brief_run_is_in_the_loop_and_for_all_that_were_read_by_then() -> None:
    async def test(runs: Runs, batcher: Batcher) -> None:
        assert batcher.alive
        answers = await asyncio.gather(*(ask(batcher, n) for n in range(41)))
        assert [answer[0].intent for answer in answers] == [str(n) for n in range(41)]
        assert runs.sizes == [32, 9]
        assert (await ask(batcher, 41, left_s=-1.0))[0].status == 504
        assert [one.status for one in await ask(batcher, *range(50))] == [200] * 48 + [503] * 2
        runs.poison = 13
        assert [one.status for one in await ask(batcher, 12, 13, 14)] == [200, 400, 200]
        gone = asyncio.create_task(ask(batcher, 99))
        stays = asyncio.create_task(ask(batcher, 100))
        await asyncio.sleep(0)
        gone.cancel()
        assert (await stays)[0].intent == "100"
        assert runs.threads == {threading.get_ident()}

    run(test, brief=True, queue_items=48)


def test_a_full_queue_says_so_before_anything_is_done_for_an_item() -> None:
    async def test(runs: Runs, batcher: Batcher) -> None:
        runs.go.clear()
        first = asyncio.create_task(ask(batcher, 0))
        await asyncio.sleep(0.02)
        assert not batcher.full
        waiting = asyncio.create_task(ask(batcher, 1, 2))
        await asyncio.sleep(0)
        assert batcher.full
        assert [(one.status, one.reason) for one in batcher.shed(2)] == [(503, "overloaded")] * 2
        runs.go.set()
        await asyncio.gather(first, waiting)
        assert not batcher.full

    run(test, queue_items=2)
