"""The coalescer: order, bounds, isolation, cancellation, and that it coalesces."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from services.common.coalesce import Coalescer, QueueFull


class Calls:
    """A call that can be held, and remembers what it was given."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.out = 0
        self.most_out = 0
        self.poison: set[int] = set()

    async def __call__(self, batch: list[int]) -> list[int]:
        self.batches.append(batch)
        self.out += 1
        self.most_out = max(self.most_out, self.out)
        try:
            await self.open.wait()
            await asyncio.sleep(0)
            if self.poison & set(batch):
                raise ValueError("poisoned")
            return [item * 10 for item in batch]
        finally:
            self.out -= 1


def coalescer(calls: Calls, batch: int = 8, in_flight: int = 2, queue: int = 100) -> Coalescer[int, int]:
    return Coalescer(calls, max_batch=batch, max_in_flight=in_flight, max_queue=queue)


def run(test: Callable[[Calls], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(10):
            await test(Calls())

    asyncio.run(main())


def test_each_caller_gets_its_own_result_and_calls_are_fewer_than_items() -> None:
    async def under_load(calls: Calls) -> None:
        c = coalescer(calls, batch=64, queue=5000)
        results = await asyncio.gather(*(c.submit(n) for n in range(5000)))
        assert results == [n * 10 for n in range(5000)]
        assert [n for batch in calls.batches for n in batch] == list(range(5000))
        assert c.calls == len(calls.batches) < 5000 / 32
        assert max(map(len, calls.batches)) == 64
        assert calls.most_out == 2

    run(under_load)


def test_a_lone_item_leaves_at_once() -> None:
    async def test(calls: Calls) -> None:
        c = coalescer(calls)
        calls.open.clear()
        waiting = asyncio.create_task(c.submit(1))
        for _ in range(4):
            await asyncio.sleep(0)
        assert calls.batches == [[1]]
        calls.open.set()
        assert await waiting == 10

    run(test)


def test_what_arrives_while_the_calls_are_out_joins_the_next_one() -> None:
    async def test(calls: Calls) -> None:
        c = coalescer(calls, in_flight=1)
        calls.open.clear()
        waiting = [asyncio.create_task(c.submit(1))]
        await asyncio.sleep(0.01)
        for n in range(2, 7):
            waiting.append(asyncio.create_task(c.submit(n)))
            await asyncio.sleep(0)
        assert (c.queued, c.in_flight) == (5, 1)
        calls.open.set()
        assert await asyncio.gather(*waiting) == [10, 20, 30, 40, 50, 60]
        assert calls.batches == [[1], [2, 3, 4, 5, 6]]

    run(test)


def test_submissions_of_many_are_split_and_put_together_again() -> None:
    async def test(calls: Calls) -> None:
        c = coalescer(calls, batch=4, in_flight=3)
        first, second = await asyncio.gather(
            c.submit_many(list(range(10))), c.submit_many(list(range(10, 13)))
        )
        assert first == [n * 10 for n in range(10)]
        assert second == [100, 110, 120]
        assert all(len(batch) <= 4 for batch in calls.batches)

    run(test)


def test_a_full_queue_refuses_what_does_not_fit_and_only_that() -> None:
    async def test(calls: Calls) -> None:
        c = coalescer(calls, batch=2, in_flight=1, queue=3)
        calls.open.clear()
        first = asyncio.create_task(c.submit(0))
        await asyncio.sleep(0.01)
        many = asyncio.create_task(c.submit_many([1, 2, 3, 4, 5]))
        await asyncio.sleep(0.01)
        with pytest.raises(QueueFull):
            await c.submit(6)
        calls.open.set()
        assert await first == 0
        results = await many
        assert results[:3] == [10, 20, 30]
        assert [type(result) for result in results[3:]] == [QueueFull, QueueFull]
        assert await c.submit(7) == 70

    run(test)


def test_an_exception_reaches_only_the_members_of_its_batch() -> None:
    async def test(calls: Calls) -> None:
        calls.poison = {2}
        c = coalescer(calls, batch=2, in_flight=1)
        results = await asyncio.gather(*(c.submit(n) for n in range(6)), return_exceptions=True)
        assert [type(result) for result in results] == [int, int, ValueError, ValueError, int, int]

    run(test)


def test_a_call_that_returns_too_few_results_fails_its_batch() -> None:
    async def short(batch: list[int]) -> list[int]:
        return batch[:-1]

    async def main() -> None:
        c = Coalescer(short, max_batch=8, max_in_flight=1, max_queue=8)
        with pytest.raises(RuntimeError, match="with 1 items returned 0"):
            await c.submit(1)

    asyncio.run(main())


def test_a_cancelled_waiter_frees_its_slot_and_is_not_called() -> None:
    async def test(calls: Calls) -> None:
        c = coalescer(calls, batch=2, in_flight=1, queue=2)
        calls.open.clear()
        first = asyncio.create_task(c.submit(1))
        await asyncio.sleep(0.01)
        gone = asyncio.create_task(c.submit_many([2, 3]))
        await asyncio.sleep(0.01)
        assert c.queued == 2
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert c.queued == 0
        late = asyncio.create_task(c.submit(4))
        await asyncio.sleep(0.01)
        calls.open.set()
        assert await first == 10
        assert await late == 40
        assert calls.batches == [[1], [4]]

    run(test)


def test_cancelling_one_member_of_a_call_leaves_the_others_their_results() -> None:
    async def test(calls: Calls) -> None:
        c = coalescer(calls, batch=4, in_flight=1)
        calls.open.clear()
        one, other = asyncio.create_task(c.submit(1)), asyncio.create_task(c.submit(2))
        await asyncio.sleep(0.01)
        assert calls.batches == [[1, 2]]
        one.cancel()
        await asyncio.sleep(0)
        calls.open.set()
        assert await other == 20
        assert (c.queued, one.cancelled()) == (0, True)

    run(test)


def test_close_cancels_calls_that_do_not_end() -> None:
    async def test(calls: Calls) -> None:
        c = coalescer(calls)
        calls.open.clear()
        waiting = asyncio.create_task(c.submit(1))
        await asyncio.sleep(0.01)
        await c.close(timeout_s=0.01)
        with pytest.raises(asyncio.CancelledError):
            await waiting

    run(test)


def test_what_waits_is_shared_out_among_the_workers() -> None:
    sizes: list[int] = []

    async def call(items: list[int]) -> list[int]:
        sizes.append(len(items))
        return items

    async def run(workers: int, count: int) -> list[int]:
        sizes.clear()
        coalescer = Coalescer(call, max_batch=64, max_in_flight=8, max_queue=100, workers=lambda: workers)
        assert await coalescer.submit_many(list(range(count))) == list(range(count))
        return sorted(sizes)

    assert asyncio.run(run(workers=1, count=32)) == [32]
    assert asyncio.run(run(workers=4, count=32)) == [8, 8, 8, 8]
    # Less than a worthwhile call is not split.
    assert asyncio.run(run(workers=4, count=3)) == [3]
